//! Device nodes: those every container has, and those of `linux.devices`.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::SpecError;
use crate::setup::job::DeviceNode;

/// The nodes of the runtime spec's "default devices".
pub fn default_devices() -> Vec<DeviceNode> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| DeviceNode {
            path: PathBuf::from("/dev").join(name),
            kind: libc::S_IFCHR,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// Turns one entry of `linux.devices` into a node.
pub fn device(device: &LinuxDevice) -> Result<DeviceNode, SpecError> {
    let field = || format!("linux.devices: {}", device.path().display());
    if !device.path().is_absolute() {
        return Err(SpecError::invalid(field(), "the path is not absolute"));
    }
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => return Err(SpecError::invalid(field(), "a node is of type b, c, u or p")),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| SpecError::invalid(field(), "no such number"));
    let (major, minor) = match kind {
        libc::S_IFIFO => (0, 0),
        _ => (number(device.major())?, number(device.minor())?),
    };
    if kind == libc::S_IFBLK {
        return Err(SpecError::unsupported(field(), "a guest's block devices are the sandbox's own disks"));
    }
    Ok(DeviceNode {
        path: device.path().clone(),
        kind,
        major,
        minor,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}
