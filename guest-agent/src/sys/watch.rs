//! Handing a descriptor to the async runtime.

use std::fs::File;
use std::io;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the runtime watch a file, which must be of a kind that can be polled.
pub fn watch(file: File, interest: Interest) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` names the one descriptor it owns for as long as it lives, and `AsyncFd` gives it back or closes it.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(io::Error::from)
}
