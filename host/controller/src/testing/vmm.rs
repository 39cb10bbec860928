//! A VMM process without a VM.
