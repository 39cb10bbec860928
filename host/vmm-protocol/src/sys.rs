//! The one unsafe step: descriptors that `recvmsg` returned become owned.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes ownership of descriptors that the kernel has just installed for this process.
pub fn own(received: Vec<RawFd>) -> impl Iterator<Item = OwnedFd> {
    // SAFETY: `SCM_RIGHTS` installs new descriptors in the receiving process (unix(7)); nothing else owns them yet.
    received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}
