//! Shutdown: ends all containers and leaves the disks clean.
//!
//! It can be asked for again while it lasts, by someone with less patience. Kill works meanwhile, and so does whatever only
//! asks: a shutdown may take as long as its first asker had patience.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::create::remove;
use super::{Container, Result, Sandbox};

/// How long it may take to tell of exits that have happened.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How far the shutdown is.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// When SIGKILL follows: the earliest that was asked for.
    deadline: watch::Sender<Option<Instant>>,
    over: watch::Sender<bool>,
}

impl Sandbox {
    /// SIGTERM to every init, SIGKILL to all that is left after `patience`, then unmounts everything. Goes on after a
    /// failure and logs it, and when nobody waits for it any more: a guest that is told to go must go. Nothing can be begun
    /// from then on. Whoever asks again waits for the same end and can only bring it nearer.
    pub async fn shut_down(self: &Arc<Self>, patience: Duration) {
        self.ending.bring_nearer(patience);
        if !std::mem::replace(&mut self.containers().closing, true) {
            let sandbox = Arc::clone(self);
            tokio::spawn(async move {
                sandbox.end_all(!patience.is_zero()).await;
                sandbox.ending.over.send_replace(true);
            });
        }
        // The sender is this very sandbox's.
        let _ = self.ending.over.subscribe().wait_for(|over| *over).await;
    }

    async fn end_all(&self, ask_first: bool) {
        let containers = self.all();
        if ask_first {
            let asked = async {
                for container in &containers {
                    container.terminate().await;
                }
            };
            tokio::select! {
                () = asked => {}
                () = self.ending.patience() => {}
            }
        }
        for container in &containers {
            if let Err(error) = container.end(self.ending.patience()).await {
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

impl Ending {
    fn bring_nearer(&self, patience: Duration) {
        let asked = Instant::now() + patience;
        self.deadline.send_if_modified(|deadline| {
            let nearer = deadline.is_none_or(|deadline| asked < deadline);
            if nearer {
                *deadline = Some(asked);
            }
            nearer
        });
    }

    /// Ends with the patience of the least patient.
    async fn patience(&self) {
        let mut seen = self.deadline.subscribe();
        loop {
            let Some(deadline) = *seen.borrow_and_update() else { return };
            tokio::select! {
                () = sleep_until(deadline) => return,
                changed = seen.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Container {
    async fn terminate(&self) {
        let Ok(task) = self.task().await else { return };
        if let Err(error) = task.init.signal(libc::SIGTERM) {
            tracing::warn!(container = self.id, %error, "SIGTERM was not sent");
        }
    }

    async fn end(&self, patience: impl Future<Output = ()>) -> Result<()> {
        // Not under the lock, which Kill needs.
        if let Ok(mut exit) = self.task().await.map(|task| task.init.watch()) {
            tokio::select! {
                _ = exit.wait() => {}
                () = patience => {}
            }
        }
        let mut state = self.state.lock().await;
        if let Some(task) = state.task.take() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_least_patient_sets_the_deadline() {
        let ending = Ending::default();
        let begun = Instant::now();
        ending.bring_nearer(Duration::from_secs(3600));
        let shortened = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            ending.bring_nearer(Duration::from_secs(5));
            ending.bring_nearer(Duration::from_secs(60));
        };
        tokio::join!(ending.patience(), shortened);
        assert_eq!(begun.elapsed(), Duration::from_secs(6));
    }
}
