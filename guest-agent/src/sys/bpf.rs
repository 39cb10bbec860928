//! Device filters: eBPF programs that a cgroup asks before a device is opened or made.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// One eBPF instruction, `struct bpf_insn` of `linux/bpf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high one.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what is missing as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

/// `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// The verifier gives up with EAGAIN when a signal comes, as that of a child's end does to us: it is asked again, so often.
const ATTEMPTS: usize = 32;

/// Has the kernel verify a device filter.
pub fn load_device_filter(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
    };
    // SAFETY: `attr` has the size the kernel is told; the program and the licence outlive the call, which reads them.
    let load =
        || check(unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) });
    let fd = despite_signals(load)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device filter to a cgroup, for as long as the cgroup lives.
pub fn attach_device_filter(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI,
    };
    // SAFETY: `attr` has the size the kernel is told and is only read.
    check(unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) })
        .map(drop)
}

fn despite_signals<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut result = attempt();
    for _ in 1..ATTEMPTS {
        match &result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => result = attempt(),
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_comes_while_a_filter_is_verified_does_not_matter() {
        let mut left = 3;
        let interrupted = || match left {
            0 => Ok("loaded"),
            _ => {
                left -= 1;
                Err(io::Error::from_raw_os_error(libc::EAGAIN))
            }
        };
        assert_eq!(despite_signals(interrupted).unwrap(), "loaded");
        let mut asked = 0;
        let never = despite_signals(|| -> io::Result<()> {
            asked += 1;
            Err(io::Error::from_raw_os_error(libc::EAGAIN))
        });
        assert_eq!((never.unwrap_err().raw_os_error(), asked), (Some(libc::EAGAIN), ATTEMPTS));
        let mut asked = 0;
        let refused = despite_signals(|| -> io::Result<()> {
            asked += 1;
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        });
        assert_eq!((refused.unwrap_err().raw_os_error(), asked), (Some(libc::EINVAL), 1));
    }
}
