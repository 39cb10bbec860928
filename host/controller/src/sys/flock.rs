//! A lock that lives as long as the open file, with no guard that would end it earlier.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Locks `file` exclusively; false when someone else holds it. The lock belongs to the open file: copies of the descriptor
/// share it, in whatever process, and the last of them to close ends it (flock(2)).
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock takes a descriptor, which `file` keeps open, and a flag; no memory.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}
