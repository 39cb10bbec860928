//! Shutdown: ends all containers and leaves the disks clean.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{timeout, timeout_at};

use super::create::remove;
use super::{Container, Result, Sandbox};

/// How long it may take to tell of exits that have happened.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Sandbox {
    /// SIGTERM to every init, SIGKILL to all that is left after `patience`, then unmounts everything. Goes on after a
    /// failure and logs it: a guest that is told to go must go. No verb works afterwards.
    pub async fn shut_down(&self, patience: Duration) {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let containers: Vec<Arc<Container>> =
            containers.into_iter().flatten().map(|(_, container)| container).collect();
        let deadline = tokio::time::Instant::now() + patience;
        if !patience.is_zero() {
            for container in &containers {
                container.terminate().await;
            }
        }
        for container in &containers {
            if let Err(error) = container.end(deadline).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(container = container.id, error, "a container was not ended cleanly");
            }
        }
        // All processes are gone, and that is told before those who listen are cut off.
        if timeout(LAST_WORDS, self.announcers.closed()).await.is_err() {
            tracing::warn!("not every exit was told");
        }
        nix::unistd::sync();
    }
}

impl Container {
    async fn terminate(&self) {
        let Ok(task) = self.task().await else { return };
        if let Err(error) = task.init.signal(libc::SIGTERM) {
            tracing::warn!(container = self.id, %error, "SIGTERM was not sent");
        }
    }

    async fn end(&self, deadline: tokio::time::Instant) -> Result<()> {
        let mut state = self.state.lock().await;
        if let Some(task) = state.task.take() {
            let _ = timeout_at(deadline, task.init.watch().wait()).await;
            task.watching.abort();
            remove(&task.cgroup).await?;
            for process in task.execs.values().chain([&task.init]) {
                process.stdio().finish(Duration::ZERO).await;
            }
        }
        match state.rootfs.take() {
            Some(rootfs) => Ok(rootfs.unmount()?),
            None => Ok(()),
        }
    }
}
