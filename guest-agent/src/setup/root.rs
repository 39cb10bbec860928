//! The container's root: cut off from the guest's mounts, covered where it must be, and entered.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};

use super::Result;
use super::inside::{Root, by_fd, is_folder};
use super::job::ContainerJob;
use super::mounts::{bind_onto_itself, is_dev_tmpfs, make_read_only};
use crate::process::handshake::Attempt;

/// Lets no mount of this namespace reach the guest's, and makes the root a mount of its own, which `pivot_root` needs.
pub fn isolate(rootfs: &Path) -> Result<()> {
    let change = |target: &Path, flags| mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
    change(Path::new("/"), MsFlags::MS_SLAVE | MsFlags::MS_REC)
        .attempt(|| "cut the mounts off from the guest's".to_owned())?;
    let action = || format!("mount the root file system at {}", rootfs.display());
    mount(Some(rootfs), rootfs, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .attempt(action)?;
    change(rootfs, MsFlags::MS_PRIVATE).attempt(action)
}

/// Covers what the container must not see or change. Paths that are not there need no cover.
pub fn hide(job: &ContainerJob, root: &Root) -> Result<()> {
    for path in &job.readonly_paths {
        let action = || format!("make {} read-only", path.display());
        let Some(found) = find(root, path).attempt(action)? else { continue };
        bind_onto_itself(&found).attempt(action)?;
        make_read_only(&root.find(path).attempt(action)?).attempt(action)?;
    }
    for path in &job.masked_paths {
        let action = || format!("hide {}", path.display());
        let Some(found) = find(root, path).attempt(action)? else { continue };
        mask(&found).attempt(action)?;
    }
    for late in job.mounts.iter().filter(|late| is_dev_tmpfs(late) && late.flags & libc::MS_RDONLY != 0) {
        let action = || format!("make {} read-only", late.destination.display());
        make_read_only(&root.find(&late.destination).attempt(action)?).attempt(action)?;
    }
    if job.readonly_root {
        make_read_only(&root.find(Path::new("/")).attempt(|| "find the root".to_owned())?)
            .attempt(|| "make the root file system read-only".to_owned())?;
    }
    Ok(())
}

fn find(root: &Root, path: &Path) -> std::result::Result<Option<OwnedFd>, Errno> {
    match root.find(path) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Covers a folder with an empty one and anything else with the guest's own null device.
fn mask(path: &OwnedFd) -> std::io::Result<()> {
    let target = by_fd(path.as_fd());
    if is_folder(path.as_fd())? {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), &target, Some("tmpfs"), flags, Some("nr_blocks=1,nr_inodes=1"))?;
    } else {
        mount(Some("/dev/null"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    Ok(())
}

/// Enters the root and forgets the guest's. The old root ends up below the new one and is unmounted there: at no moment
/// is it visible at a path.
pub fn enter(root: &Root, propagation: Option<u64>) -> Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
    let old = openat(AT_FDCWD, "/", flags, Mode::empty()).attempt(|| "open the guest's root".to_owned())?;
    fchdir(root.fd()).attempt(|| "enter the root file system".to_owned())?;
    pivot_root(".", ".").attempt(|| "make the root file system the root".to_owned())?;
    let leave = || "leave the guest's root".to_owned();
    fchdir(&old).attempt(leave)?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, ".", None::<&str>, slave, None::<&str>).attempt(leave)?;
    umount2(".", MntFlags::MNT_DETACH).attempt(leave)?;
    chdir("/").attempt(leave)?;
    match propagation.map(MsFlags::from_bits_retain) {
        None => Ok(()),
        Some(flags) => mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .attempt(|| "set the root's propagation".to_owned()),
    }
}
