//! Signals by number, the real-time ones included.

use std::io;

use super::check;

/// Sends a signal to one process.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: both are numbers; a positive pid names one process.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// The highest signal.
const LAST: libc::c_long = 64;

/// Lets every signal do again what it does by default. What is ignored, other than what is handled, stays so when a program is
/// executed. The C library would keep two real-time signals from this, so the kernel is asked.
pub fn stop_ignoring() {
    // The kernel's `sigaction`: handler, flags, restorer and mask. Zeroes are SIG_DFL.
    let default = [0_u64; 4];
    for signal in 1..=LAST {
        // SAFETY: the kernel only reads `default`, which has the size of its `sigaction` with a mask of 8 bytes. No handler of this
        // process is needed any more. SIGKILL and SIGSTOP are refused, and cannot be ignored either.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, 8_usize) };
    }
}
