//! System calls that need `unsafe`, behind functions that do not.

pub mod kvm;
pub mod tty;
