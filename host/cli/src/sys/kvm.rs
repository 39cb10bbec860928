//! Questions to /dev/kvm that make nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The first byte of every KVM request.
const KVMIO: u8 = 0xae;

nix::ioctl_none!(kvm_get_api_version, KVMIO, 0x00);
nix::ioctl_write_int_bad!(kvm_check_extension, nix::request_code_none!(KVMIO, 0x03));

/// The version of KVM's interface: 12 everywhere.
pub fn api_version(kvm: impl AsFd) -> io::Result<i32> {
    // SAFETY: the request takes no argument and writes no memory.
    Ok(unsafe { kvm_get_api_version(kvm.as_fd().as_raw_fd()) }?)
}

/// Whether, or how much of, a capability is there: its number is of linux/kvm.h.
pub fn extension(kvm: impl AsFd, capability: i32) -> io::Result<i32> {
    // SAFETY: the request takes a plain number and writes no memory.
    Ok(unsafe { kvm_check_extension(kvm.as_fd().as_raw_fd(), capability) }?)
}
