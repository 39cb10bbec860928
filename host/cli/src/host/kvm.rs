//! /dev/kvm: whether it is there, ours to use, and able enough.

use std::fs::{File, OpenOptions};
use std::io;

use crate::sys;

/// The device.
pub const PATH: &str = "/dev/kvm";
/// The only version there has ever been since 2007.
pub const API_VERSION: i32 = 12;

/// What the VMM cannot do without: number in linux/kvm.h, name.
pub const NEEDED: [(i32, &str); 8] = [
    (0, "IRQCHIP"),
    (3, "USER_MEMORY"),
    (4, "SET_TSS_ADDR"),
    (7, "EXT_CPUID"),
    (14, "MP_STATE"),
    (32, "IRQFD"),
    (36, "IOEVENTFD"),
    (136, "IMMEDIATE_EXIT"),
];

/// Why /dev/kvm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// There is none.
    #[error(
        "there is no {PATH}: load kvm_intel or kvm_amd, turn on virtualization in the firmware, or, inside a virtual machine, ask for nested virtualization (`theca check` tells more)"
    )]
    Missing,
    /// It belongs to others.
    #[error(
        "no permission to use {PATH}: run as root, or have your user added to the group kvm and log in again"
    )]
    NoPermission,
    /// Something else.
    #[error("failed to open {PATH}")]
    Open(#[source] io::Error),
}

/// Opens the device.
pub fn open() -> Result<File, KvmError> {
    OpenOptions::new().read(true).write(true).open(PATH).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KvmError::Missing,
        io::ErrorKind::PermissionDenied => KvmError::NoPermission,
        // The node is there, the module is not.
        _ if error.raw_os_error() == Some(nix::libc::ENODEV)
            || error.raw_os_error() == Some(nix::libc::ENXIO) =>
        {
            KvmError::Missing
        }
        _ => KvmError::Open(error),
    })
}

/// What of [`NEEDED`] is not there.
pub fn missing_capabilities(kvm: &File) -> Vec<&'static str> {
    let there = |number: i32| sys::kvm::extension(kvm, number).is_ok_and(|answer| answer > 0);
    NEEDED.iter().filter(|(number, _)| !there(*number)).map(|(_, name)| *name).collect()
}
