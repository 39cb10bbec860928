//! System calls of the jail that have no safe wrapper elsewhere.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::{SigHandler, Signal};

/// Takes the descriptor that the parent left open for this program under a number of its choice.
/// Answers an error if nothing is open there.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks.
    if fd <= libc::STDERR_FILENO || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, was inherited across execve, and this is called once, before anything else opens descriptors.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor but the standard three and `keep`. For the start of `main`, when nothing else is open on purpose.
pub fn close_all_but(keep: &impl AsRawFd) -> io::Result<()> {
    let keep = keep.as_raw_fd() as libc::c_uint;
    for (first, last) in [(3, keep.saturating_sub(1)), (keep + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: closing descriptors that no value in this program owns.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Gives up every capability, for good.
pub fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted and inheritable, 64 bits each in two halves.
    let none = [0u32; 6];
    // SAFETY: both structures have the layout of capset(2) for version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, &none) }).map(drop)
}

/// An empty, read-only file system that is mounted nowhere.
pub fn empty_file_system() -> io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const MOUNT_ATTR: libc::c_uint = 0x1 | 0x2 | 0x4 | 0x8;
    // SAFETY: the name is a C string; the other arguments are numbers.
    let context = own(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), FSMOUNT_CLOEXEC) })?;
    let fd = context.as_raw_fd();
    let none = ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: only numbers.
    own(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, MOUNT_ATTR) })
}

/// Mounts what [`empty_file_system`] made on `target`.
pub fn mount_at(file_system: &OwnedFd, target: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let fd = file_system.as_raw_fd();
    // SAFETY: both paths are C strings.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            fd,
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(moved).map(drop)
}

/// Has a signal do nothing.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring installs no handler.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }?;
    Ok(())
}

/// Keeps all threads' small allocations in one heap: an arena per thread costs memory and system calls, and nothing here
/// allocates on a hot path.
pub fn share_one_heap() {
    // SAFETY: sets a number in the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result)? as RawFd;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
