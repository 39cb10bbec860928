//! The capability sets of the calling thread, as bit masks.

use std::io;

use super::check;

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the three sets that `capset` knows.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data elements, all of which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Whether the running kernel knows a capability.
pub fn is_known(capability: u32) -> bool {
    // SAFETY: PR_CAPBSET_READ takes a number by value.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), 0, 0, 0) >= 0 }
}

/// Takes a capability out of the bounding set, for good.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: PR_CAPBSET_DROP takes a number by value.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) }.into())
        .map(drop)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes no further argument.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())
        .map(drop)
}

/// Adds a capability, which must be permitted and inheritable, to the ambient set.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: PR_CAP_AMBIENT_RAISE takes a number by value.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) }.into())
        .map(drop)
}
