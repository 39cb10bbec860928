//! The nodes and links of `/dev`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, chown, symlinkat, unlinkat};

use super::Result;
use super::inside::{Root, by_fd};
use super::job::DeviceNode;
use crate::oci::default_devices;
use crate::process::handshake::{Attempt, Failure};

/// Links that programs rely on.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes the usual nodes and links, and the container's own.
pub fn populate(devices: &[DeviceNode], root: &Root) -> Result<()> {
    let usual = default_devices();
    // A device of the spec takes the place of a usual one.
    for device in usual.iter().filter(|usual| devices.iter().all(|own| own.path != usual.path)).chain(devices)
    {
        make_node(device, root)?;
    }
    for (target, path) in LINKS {
        let (parent, name) = root.parent_of(Path::new(path))?;
        make_link(target, &parent, name).attempt(|| format!("link {path}"))?;
    }
    // The multiplexer of the guest's own terminals would be a way out of the container's.
    if root.find(Path::new("/dev/pts/ptmx")).is_ok() {
        let action = || "link /dev/ptmx".to_owned();
        let (parent, name) = root.parent_of(Path::new("/dev/ptmx"))?;
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error).attempt(action),
        }
        symlinkat("pts/ptmx", &parent, name).attempt(action)?;
    }
    Ok(())
}

fn make_link(target: &str, parent: &OwnedFd, name: &Path) -> std::result::Result<(), Errno> {
    match symlinkat(target, parent, name) {
        Err(Errno::EEXIST) if readlinkat(parent, name).is_ok_and(|known| known == target) => Ok(()),
        result => result,
    }
}

fn make_node(device: &DeviceNode, root: &Root) -> Result<()> {
    let action = || format!("make the device {}", device.path.display());
    let (parent, name) = root.parent_of(&device.path)?;
    let mode = Mode::from_bits_truncate(device.mode);
    let number = makedev(device.major.into(), device.minor.into());
    match mknodat(&parent, name, SFlag::from_bits_truncate(device.kind), mode, number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let known = root.find(&device.path).and_then(|found| fstat(&found)).attempt(action)?;
            let same = known.st_mode & libc::S_IFMT == device.kind && known.st_rdev == number;
            return if same { Ok(()) } else { Err(Failure::new(action(), "something else is there")) };
        }
        Err(error) => return Err(error).attempt(action),
    }
    let made = root.find(&device.path).attempt(action)?;
    let path = by_fd(made.as_fd());
    // The umask has taken from the mode.
    fchmodat(&made, &path, mode, FchmodatFlags::FollowSymlink).attempt(action)?;
    chown(&path, Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid))).attempt(action)
}
