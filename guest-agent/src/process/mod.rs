//! Processes that the agent has started: launched through a set-up process, fed by streams, watched until they end.

pub mod handshake;
pub mod launch;
pub mod seccomp;
pub mod stdio;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use self::stdio::{Names, Stdio};
use crate::oci::Process as Spec;
use crate::reaper::{Exit, ExitWatch};

/// A container's init or one of its execs.
#[derive(Debug)]
pub struct Process {
    /// In the guest's pid namespace.
    pub pid: Pid,
    /// What it was asked to be.
    pub spec: Spec,
    /// The streams it was given.
    pub names: Names,
    pidfd: OwnedFd,
    exit: ExitWatch,
    stdio: Stdio,
}

impl Process {
    /// Puts together what a launch and its streams have become.
    pub fn new(pid: Pid, pidfd: OwnedFd, exit: ExitWatch, spec: Spec, names: Names, stdio: Stdio) -> Self {
        Self { pid, spec, names, pidfd, exit, stdio }
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.now()
    }

    /// For waiting without keeping the process alive here.
    pub fn watch(&self) -> ExitWatch {
        self.exit.clone()
    }

    /// Names the process for `setns`.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.pidfd.as_fd()
    }

    /// Sends a signal; `false` if the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        if self.exit().is_some() {
            return Ok(false);
        }
        signal_pid(self.pid, signal)
    }

    /// Its streams.
    pub fn stdio(&self) -> &Stdio {
        &self.stdio
    }
}

/// Sends a signal by pid; `false` if there is no such process. Real-time signals have no name, so this takes numbers.
pub fn signal_pid(pid: Pid, signal: i32) -> io::Result<bool> {
    match crate::sys::signal::send(pid.as_raw(), signal) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(false),
        Err(error) => Err(error),
    }
}
