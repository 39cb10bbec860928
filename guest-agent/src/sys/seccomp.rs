//! Loading a seccomp filter.

use std::io;

use serde::{Deserialize, Serialize};

use super::check;

/// One classic BPF instruction, `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Puts a filter on the calling thread for good. It needs `no_new_privs` or CAP_SYS_ADMIN.
pub fn load(filter: &[Instruction], flags: u32) -> io::Result<()> {
    let len = filter.len().try_into().map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `sock_filter`; the kernel reads `len` of them and writes none.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
    .map(drop)
}
