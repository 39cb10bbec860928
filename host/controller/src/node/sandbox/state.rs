//! What may be asked of a sandbox where it stands. Pure.
