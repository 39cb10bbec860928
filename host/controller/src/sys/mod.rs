//! The system calls that neither std nor nix offers as safe functions. All of this crate's `unsafe` is below here.

pub mod flock;
pub mod heap;
pub mod inherit;
pub mod pidfd;
pub mod readiness;
pub mod session;
pub mod usage;
