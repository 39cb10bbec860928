//! The mounts of a spec, in its order, each on a mount point found or made below the root.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::Result;
use super::inside::{Root, by_fd, is_folder};
use super::job::{ContainerJob, MountJob, MountSource};
use crate::process::handshake::{Attempt, Failure};
use crate::sys;

/// Mount attributes of `linux/mount.h` for mount(2)'s flags. The access time is one field of several bits.
const ATTRIBUTES: &[(u64, u64)] = &[
    (libc::MS_RDONLY, 0x1),
    (libc::MS_NOSUID, 0x2),
    (libc::MS_NODEV, 0x4),
    (libc::MS_NOEXEC, 0x8),
    (libc::MS_NOATIME, 0x10),
    (libc::MS_STRICTATIME, 0x20),
    (libc::MS_NODIRATIME, 0x80),
    (256, 0x20_0000),
];
const ACCESS_TIME: u64 = 0x70;
const READ_ONLY: u64 = 0x1;

/// Mounts everything. A read-only tmpfs on `/dev` becomes read-only in [`super::root::hide`], after it was filled.
pub fn mount_all(job: &ContainerJob, root: &mut Root) -> Result<()> {
    for mount in &job.mounts {
        let action = || format!("mount {}", mount.destination.display());
        let context =
            |failure: Failure| Failure { action: format!("{}: {}", action(), failure.action), ..failure };
        self::mount_one(mount, job, root).map_err(context)?;
        if mount.destination == Path::new("/") {
            root.reopen()?;
        }
    }
    Ok(())
}

/// Whether a mount must stay writable until the set-up is done with it.
pub fn is_dev_tmpfs(job: &MountJob) -> bool {
    job.destination == Path::new("/dev") && matches!(job.source, MountSource::Filesystem { .. })
}

fn mount_one(job: &MountJob, container: &ContainerJob, root: &Root) -> Result<()> {
    let flags = MsFlags::from_bits_retain(job.flags);
    match &job.source {
        MountSource::Bind { path } => bind(path, job, root)?,
        MountSource::Cgroup if container.new_namespaces & libc::CLONE_NEWCGROUP == 0 => {
            bind(&container.cgroup, job, root)?;
        }
        MountSource::Cgroup => {
            filesystem("cgroup2", "cgroup", "", flags, &root.make_folder(&job.destination)?)?
        }
        MountSource::Filesystem { fs_type, source, data } => {
            let flags = if is_dev_tmpfs(job) { flags - MsFlags::MS_RDONLY } else { flags };
            filesystem(fs_type, source, data, flags, &root.make_folder(&job.destination)?)?;
        }
    }
    let mounted = root.find(&job.destination).attempt(|| "find the new mount".to_owned())?;
    for propagation in &job.propagation {
        let flags = MsFlags::from_bits_retain(*propagation);
        mount(None::<&str>, &by_fd(mounted.as_fd()), None::<&str>, flags, None::<&str>)
            .attempt(|| "set its propagation".to_owned())?;
    }
    if job.recursive_set != 0 || job.recursive_clear != 0 {
        sys::mount::set_attributes(mounted.as_fd(), job.recursive_set, job.recursive_clear, true)
            .attempt(|| "change what is mounted below it".to_owned())?;
    }
    Ok(())
}

fn filesystem(fs_type: &str, source: &str, data: &str, flags: MsFlags, target: &OwnedFd) -> Result<()> {
    mount(Some(source), &by_fd(target.as_fd()), Some(fs_type), flags, Some(data))
        .attempt(|| format!("mount a {fs_type} with options {data:?}"))
}

/// A bind mount begins with the flags of what it shows; only the options that were named change them.
fn bind(source: &Path, job: &MountJob, root: &Root) -> Result<()> {
    let folder = fs::metadata(source).attempt(|| format!("find {} in the guest", source.display()))?.is_dir();
    let target = if folder { root.make_folder(&job.destination)? } else { root.make_file(&job.destination)? };
    let flags = MsFlags::MS_BIND | (MsFlags::from_bits_retain(job.flags) & MsFlags::MS_REC);
    mount(Some(source), &by_fd(target.as_fd()), None::<&str>, flags, None::<&str>)
        .attempt(|| format!("bind {}", source.display()))?;
    let (mut set, mut clear) = (0, 0);
    for (flag, attribute) in ATTRIBUTES {
        set |= if job.flags & flag != 0 { *attribute } else { 0 };
        clear |= if job.cleared & flag != 0 { *attribute } else { 0 };
    }
    let names_access_time = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;
    if (job.flags | job.cleared) & names_access_time != 0 {
        clear |= ACCESS_TIME;
    }
    if set == 0 && clear == 0 {
        return Ok(());
    }
    let mounted = root.find(&job.destination).attempt(|| "find the new mount".to_owned())?;
    sys::mount::set_attributes(mounted.as_fd(), set, clear, false).attempt(|| "set its flags".to_owned())
}

/// Makes the mount that a path is in read-only, and with it only itself.
pub fn make_read_only(mounted: &OwnedFd) -> std::io::Result<()> {
    sys::mount::set_attributes(mounted.as_fd(), READ_ONLY, 0, false)
}

/// Binds a path onto itself, so that it can have flags of its own.
pub fn bind_onto_itself(path: &OwnedFd) -> std::io::Result<()> {
    debug_assert!(is_folder(path.as_fd()).is_ok());
    let target = by_fd(path.as_fd());
    Ok(mount(Some(&target), &target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}
