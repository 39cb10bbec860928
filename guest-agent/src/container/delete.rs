//! Delete and DeleteProcess: forget what has ended and say how it ended.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::create::remove;
use super::{Error, Result, Sandbox, Target};
use crate::oci::HookPoint;
use crate::process::Process;
use crate::reaper::Exit;

/// How long output that the host has not read keeps a deletion waiting.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

/// What was forgotten.
pub struct Deleted {
    /// Of the process.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
}

impl Sandbox {
    /// Ends every process of a stopped (or never started) container and removes its cgroup. If that fails the task
    /// stays, so that it can be tried again.
    pub async fn delete(&self, id: &str) -> Result<Deleted> {
        let container = self.find(id)?;
        let mut state = container.state.lock().await;
        let Some(task) = &state.task else { return Err(Error::NoTask(id.to_owned())) };
        let status = task.status();
        status.require(status.can_delete(), id, "delete")?;
        remove(&task.cgroup).await?;
        let exit = task.init.watch().wait().await;
        task.watching.abort();
        for process in task.execs.values().chain([&task.init]) {
            process.stdio().finish(OUTPUT_PATIENCE).await;
        }
        let pid = task.init.pid.as_raw();
        state.task = None;
        drop::<MutexGuard<'_, _>>(state);
        if let Err(error) = self.run_hooks(&container, HookPoint::Poststop, "stopped", pid).await {
            // The runtime spec wants the deletion to go on, with a warning.
            tracing::warn!(
                container = id,
                error = &error as &dyn std::error::Error,
                "a poststop hook failed"
            );
        }
        Ok(Deleted { pid: pid as u32, exit })
    }

    /// Ends a process that still runs, and with init all others, and forgets it. An unknown pid means init.
    pub async fn end_and_delete(&self, id: &str, pid: u32) -> Result<Deleted> {
        let container = self.find(id)?;
        let (is_exec, mut exit) = {
            let task = container.task().await?;
            match task.execs.get(&pid) {
                Some(exec) => (true, exec.watch()),
                None => (false, task.init.watch()),
            }
        };
        if exit.now().is_none() {
            let target = if is_exec { Target::Process(pid) } else { Target::All };
            match self.kill(id, libc::SIGKILL as u32, target).await {
                // It has ended meanwhile.
                Ok(()) | Err(Error::Finished { .. }) => {}
                Err(error) => return Err(error),
            }
            exit.wait().await;
        }
        if is_exec { self.delete_process(id, pid).await } else { self.delete(id).await }
    }

    /// Forgets an exec that has ended.
    pub async fn delete_process(&self, id: &str, pid: u32) -> Result<Deleted> {
        let container = self.find(id)?;
        let mut task = container.task().await?;
        let unknown = || Error::NoProcess { container: id.to_owned(), pid };
        let process = task.execs.get(&pid).ok_or_else(unknown)?;
        let exit =
            Process::exit(process).ok_or_else(|| Error::StillRuns { container: id.to_owned(), pid })?;
        let process = task.execs.remove(&pid).ok_or_else(unknown)?;
        drop(task);
        process.stdio().finish(OUTPUT_PATIENCE).await;
        Ok(Deleted { pid, exit })
    }
}
