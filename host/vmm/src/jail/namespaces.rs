//! A VMM sees no file, no network and no other process' shared memory.
//!
//! With privileges the namespaces are made directly. Without, a user namespace is tried first, which a host may forbid;
//! then the filters alone stand between the VMM and the host's files and network, and they name no call that opens either.

use std::io;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{fchdir, pivot_root};

use crate::sys;

/// Moves into new, empty namespaces where the host allows it.
pub fn leave() -> io::Result<()> {
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let left = unshare(own).or_else(|error| match error {
        Errno::EPERM => unshare(own | CloneFlags::CLONE_NEWUSER),
        error => Err(error),
    });
    match left {
        Ok(()) => empty_root(),
        // No user namespaces for us, no more of them, or not built into the kernel.
        Err(Errno::EPERM | Errno::ENOSPC | Errno::EINVAL | Errno::EACCES) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Replaces the root by a file system with nothing in it.
fn empty_root() -> io::Result<()> {
    // Nothing that happens here may reach the host.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let empty = sys::jail::empty_file_system()?;
    sys::jail::mount_at(&empty, c"/")?;
    fchdir(&empty)?;
    match pivot_root(".", ".") {
        Ok(()) => Ok(umount2(".", MntFlags::MNT_DETACH)?),
        // The initial root of a host that runs from its initramfs cannot be pivoted away, but it can be left.
        Err(Errno::EINVAL) => Ok(nix::unistd::chroot(".")?),
        Err(error) => Err(error.into()),
    }
}
