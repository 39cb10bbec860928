//! Signals by number, the real-time ones included.

use std::io;

use super::check;

/// Sends a signal to one process.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: both are numbers; a positive pid names one process.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}
