//! An agent that does what a test says.
