//! System calls that neither `std` nor `nix` offers, as safe functions on owned and borrowed descriptors.
//!
//! All `unsafe` of the agent is here, one file per kernel interface.

pub mod bpf;
pub mod capability;
pub mod fd;
pub mod keyring;
pub mod mount;
pub mod network;
pub mod rlimit;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod tty;
pub mod watch;

use std::io;

/// The result of a raw system call: negative means `errno`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
