//! Collects every process that ends below the agent: those it started, and the orphans that pid 1 inherits.
//!
//! There is one reaper. What the agent starts goes through [`Reaper::spawn`], so that no process can end before it is
//! known here.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::sys::spawn::{Spawn, Spawned};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its own status, or 128+N when signal N ended it.
    pub status: u32,
    /// When it was collected.
    pub at: SystemTime,
}

/// Tells when one process has ended. The exit stays there to be read.
#[derive(Clone, Debug)]
pub struct ExitWatch(watch::Receiver<Option<Exit>>);

impl ExitWatch {
    /// The exit, if it has happened.
    pub fn now(&self) -> Option<Exit> {
        *self.0.borrow()
    }

    /// Waits for the exit.
    pub async fn wait(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The reaper ends with the agent only.
            _ => std::future::pending().await,
        }
    }
}

type Waiting = Arc<Mutex<HashMap<i32, watch::Sender<Option<Exit>>>>>;

/// A handle to the reaper.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    waiting: Waiting,
}

impl Reaper {
    /// Starts a process and watches it.
    pub fn spawn(&self, spawn: &Spawn<'_>) -> io::Result<(Spawned, ExitWatch)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let spawned = spawn.start()?;
        let (sender, receiver) = watch::channel(None);
        waiting.insert(spawned.pid.as_raw(), sender);
        Ok((spawned, ExitWatch(receiver)))
    }

    /// Collects for ever. Run it as a task of its own.
    pub async fn run(self) -> io::Result<()> {
        let mut ended: Signal = signal(SignalKind::child())?;
        loop {
            self.collect();
            if ended.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    /// Collects whoever has ended. One signal may stand for many.
    fn collect(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((pid, status)) = next() {
            if let Some(sender) = waiting.remove(&pid.as_raw()) {
                sender.send_replace(Some(Exit { status, at: SystemTime::now() }));
            }
        }
    }
}

fn next() -> Option<(Pid, u32)> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)).ok()? {
        WaitStatus::Exited(pid, status) => Some((pid, status as u32)),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, 128 + signal as u32)),
        _ => None,
    }
}
