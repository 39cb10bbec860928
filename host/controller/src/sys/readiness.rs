//! Descriptors in tokio's event loop.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Lets the current runtime tell when `fd` becomes readable or writable.
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor open and the same until it is dropped, and the `AsyncFd` owns it: it
    // deregisters before it drops it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
