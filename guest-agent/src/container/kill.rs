//! Kill: signals one process of a container, or all of them.

use super::{Error, Result, Sandbox, Task};
use crate::process::signal_pid;

/// The highest real-time signal.
const LAST_SIGNAL: u32 = 64;

/// Whom to signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One process; 0 is init.
    Process(u32),
    /// Every process of the container.
    All,
}

impl Sandbox {
    /// Answers when the signal is sent, not when it has had its effect: a process that waits for a disk ends later. Any other
    /// signal than SIGKILL reaches all only once all stand still, and fails if they do not.
    pub async fn kill(&self, id: &str, signal: u32, target: Target) -> Result<()> {
        if signal == 0 || signal > LAST_SIGNAL {
            return Err(Error::InvalidSignal(signal));
        }
        let container = self.find(id)?;
        let task = container.task().await?;
        match target {
            Target::Process(pid) => {
                let process = task.process(id, pid)?;
                let sent =
                    process.signal(signal as i32).map_err(Error::io(format!("send signal {signal}")))?;
                let pid = process.pid.as_raw() as u32;
                if sent { Ok(()) } else { Err(Error::Finished { container: id.to_owned(), pid }) }
            }
            Target::All if !task.status().can_kill() && task.cgroup.processes()?.is_empty() => {
                Err(Error::Finished { container: id.to_owned(), pid: task.init.pid.as_raw() as u32 })
            }
            Target::All if signal == libc::SIGKILL as u32 => Ok(task.cgroup.kill()?),
            Target::All => signal_all(&task, signal as i32).await,
        }
    }
}

/// Signals each process while all stand still, so that none is forked past the signal.
async fn signal_all(task: &Task, signal: i32) -> Result<()> {
    let frozen_before = matches!(task.phase, super::Phase::Paused);
    if !frozen_before && let Err(error) = task.cgroup.freeze().await {
        // Who was stopped already must not stay so.
        task.cgroup.thaw().await?;
        return Err(error.into());
    }
    let sent = task.cgroup.processes().map_err(Error::from).and_then(|processes| {
        processes.into_iter().try_for_each(|pid| match signal_pid(pid, signal) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io(format!("send signal {signal} to process {pid}"))(error)),
        })
    });
    if !frozen_before {
        task.cgroup.thaw().await?;
    }
    sent
}
