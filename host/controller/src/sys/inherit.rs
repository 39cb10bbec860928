//! Descriptors that cross an exec: named by number on the child's command line.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Lets children inherit `fd` and returns the number to tell them. Close it soon: every child started meanwhile gets it.
pub fn pass(fd: impl AsFd) -> io::Result<RawFd> {
    let fd = fd.as_fd();
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(fd.as_raw_fd())
}

/// Takes the inherited descriptor `number` and makes it close-on-exec again. Call it once per number, before anything
/// else in the process opens descriptors.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard streams are not inherited this way",
        ));
    }
    // SAFETY: F_GETFD only asks whether `number` is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (just asked), came from the parent by exec, and the caller takes each number once, so nothing
    // else in this process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}
