//! Processes held by descriptor, so that a signal never reaches a stranger who got a reused pid.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// A process as it can be written down and found again: its pid and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRef {
    /// Process id.
    pub pid: u32,
    /// Clock ticks from the machine's boot to the process's start: field 22 of `/proc/<pid>/stat`, proc(5).
    pub start_ticks: u64,
}

impl ProcessRef {
    /// The running process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, start_ticks: start_ticks(pid)? })
    }

    /// The calling process.
    pub fn this() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Holds the process, if it is still the one that was written down.
    pub fn open(self) -> io::Result<Option<PidFd>> {
        let Some(held) = PidFd::open(self.pid)? else { return Ok(None) };
        // The pid cannot be reused while the descriptor is open, so asking afterwards is conclusive.
        match start_ticks(self.pid) {
            Ok(ticks) if ticks == self.start_ticks => Ok(Some(held)),
            _ => Ok(None),
        }
    }
}

/// A process that stays the same process, whatever happens to its pid. Readable once it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Holds `pid`; `None` when there is no such process.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd >= 0 {
            // SAFETY: the kernel has just returned this new descriptor to us; it fits an int as every descriptor does.
            return Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })));
        }
        match io::Error::last_os_error() {
            // The latter for a process that is just being reaped.
            error if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => Ok(None),
            error => Err(error),
        }
    }

    /// Sends SIGKILL; a process that has ended already is fine.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: pidfd_send_signal with a null siginfo touches no memory of ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGKILL,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Blocks until the process has ended, at most for `limit`; says whether it has.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut fds, limit)? > 0)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(process: PidFd) -> Self {
        process.0
    }
}

/// Field 22. The second field is the program's name in parentheses and may itself hold spaces and parentheses.
fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
    after_name.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time"))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_again_and_killed() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let noted = ProcessRef::of(child.id()).unwrap();
        let held = noted.open().unwrap().expect("it runs");
        assert!(!held.wait(Duration::ZERO).unwrap());
        held.kill().unwrap();
        assert!(held.wait(Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        assert!(noted.open().unwrap().is_none());
        held.kill().unwrap();
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process_that_was_noted() {
        let this = ProcessRef::this().unwrap();
        assert!(this.open().unwrap().is_some());
        let earlier = ProcessRef { start_ticks: this.start_ticks.wrapping_sub(1), ..this };
        assert!(earlier.open().unwrap().is_none());
    }
}
