//! The end of a task: by a call on [`Node`], or with its init's where nobody will delete it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::Deleted;
use super::lookup::Found;
use crate::id::{ContainerId, Namespace};
use crate::node::Node;
use crate::node::error::{Error, ProcessName, Result};
use crate::node::keeper::{Keeper, Phase};
use crate::node::sandbox::handle::{Handle, Request};
use crate::node::sandbox::mirror::News;
use crate::task::state::Verb;

/// How long a container that is killed may take to end. Its keeper waits up to 10 s for the ends of its other processes, and up to
/// 30 s for whoever reads its output.
const DEATH: Duration = Duration::from_secs(60);
/// How long the end of a sandbox may take to be noticed, once its keeper is gone.
const NOTICE: Duration = Duration::from_secs(10);
/// Before the end of a sandbox that could not be ended is tried again, at first and at last.
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a container that is being created may take until it can be deleted.
const BIRTH: Duration = Duration::from_secs(60);
/// How often a keeper is asked for a container that it is creating; it answers when that is there, or is not.
const ASKED: usize = 10;
const SIGKILL: u32 = 9;

impl Node {
    /// Forgets a task that has ended or was never started, its sandbox too if that was its own; with `force` one that runs
    /// is killed first. One that is being created is waited for: whoever hears that it is not there never sees it again. Answers
    /// how it ended. Stats end here. Goes on when whoever asked has gone.
    pub async fn delete_task(&self, namespace: &Namespace, id: &ContainerId, force: bool) -> Result<Deleted> {
        let (node, namespace, id) = (self.clone(), namespace.clone(), id.clone());
        self.detached(async move {
            let late = |_| Error::TimedOut { what: format!("the creation of container {id}"), limit: BIRTH };
            tokio::select! {
                settled = timeout(BIRTH, node.shared.settled(&namespace, &id)) => settled.map_err(late)?,
                () = node.shared.closing() => return Err(Error::Closed),
            }
            node.deleting(&namespace, &id, force).await
        })
        .await
    }

    async fn deleting(&self, namespace: &Namespace, id: &ContainerId, force: bool) -> Result<Deleted> {
        let found = self.look_up(namespace, id).await?;
        if force {
            self.kill_all(&found).await?;
        }
        self.accept(&found, &ProcessName::Init, Verb::Delete).await?;
        let (pid, mut exit) = found.read(|record| (record.init.pid, record.init.exit))?;
        if let Some(keeper) = &found.keeper {
            match keeper.delete(id, None).await {
                Ok(told) => exit = exit.or(Some(told)),
                // Nobody has it any more: that was what was wanted.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_gone() => self.sandbox_over(&found).await,
                Err(error) => return self.done(&found, None, Err(error)).await,
            }
            self.refresh(&found).await;
        }
        let exit = exit.unwrap_or_else(super::record::lost_now);
        self.change(&found.handle, |mirror| {
            let mut news = News::default();
            mirror.forget(id, exit, &mut news);
            news
        });
        if found.handle.mirror().entry.own_of_container {
            self.end_unwanted(&found.handle).await;
        }
        Ok(Deleted { pid, exit })
    }

    async fn kill_all(&self, found: &Found) -> Result<()> {
        let lives = |phase| matches!(phase, Phase::Running | Phase::Paused);
        let Some(keeper) =
            found.keeper.as_ref().filter(|_| found.read(|record| lives(record.init.phase)).unwrap_or(false))
        else {
            return Ok(());
        };
        match keeper.kill(&found.id, None, SIGKILL, true).await {
            Err(error) if !error.is_not_found() && !error.is_gone() => return Err(error.into()),
            _ => {}
        }
        let id = &found.id;
        let dead = found.handle.until(|mirror| {
            mirror.tasks.get(id).is_none_or(|record| record.init.phase == Phase::Stopped).then_some(())
        });
        let late =
            |_| Error::TimedOut { what: format!("the end of container {id} by SIGKILL"), limit: DEATH };
        timeout(DEATH, dead).await.map_err(late)?
    }

    /// After init's end: its last counters are kept, and a task that nobody will delete is deleted.
    pub(in crate::node) async fn task_ended(&self, handle: &Arc<Handle>, id: &ContainerId) {
        self.measure(handle, id).await;
        self.delete_unwanted(handle, id).await;
    }

    /// Begins to delete those of `containers`, which an earlier process left, that nobody will delete: they have ended, or were
    /// never started and whoever would have done so went with that process.
    pub(in crate::node) fn delete_left(&self, handle: &Arc<Handle>, containers: Vec<ContainerId>) {
        for container in containers {
            let (node, handle) = (self.clone(), handle.clone());
            self.shared.spawn(async move { node.delete_unwanted(&handle, &container).await });
        }
    }

    /// Waits for `containers` that a keeper is creating for an earlier process: their ids are taken until they are there, or are not.
    pub(in crate::node) fn await_birth(
        &self,
        handle: &Arc<Handle>,
        keeper: &Arc<dyn Keeper>,
        containers: Vec<ContainerId>,
    ) {
        for id in containers {
            // If somebody else was quicker, that is the one.
            if handle.mirror().tasks.contains_key(&id)
                || self.shared.reserve(&handle.namespace, &id, &handle.id).is_err()
            {
                continue;
            }
            let (node, handle, keeper) = (self.clone(), handle.clone(), keeper.clone());
            self.shared.spawn(async move {
                tokio::select! {
                    () = node.birth(&handle, &keeper, &id) => {}
                    () = node.shared.closing() => {}
                }
            });
        }
    }

    /// Waits until a container is there, and is known here, or is not: then its id is free.
    async fn birth(&self, handle: &Arc<Handle>, keeper: &Arc<dyn Keeper>, id: &ContainerId) {
        for _ in 0..ASKED {
            match keeper.processes(id).await {
                Ok(_) if self.catch_up(handle, keeper).await.is_ok() => return,
                Err(error) if error.is_not_found() || error.is_gone() => break,
                Ok(_) => debug!(container = %id, "its keeper does not tell that it is there"),
                Err(error) => debug!(container = %id, %error, "not created yet"),
            }
            sleep(AGAIN).await;
        }
        let _ = self.catch_up(handle, keeper).await;
        let mirror = handle.mirror();
        if mirror.tasks.contains_key(id) || mirror.expected.contains_key(id) {
            return;
        }
        if let Err(error) = self.shared.journal.remove_bundle(&handle.namespace, id) {
            warn!(container = %id, %error, "the bundle of a container that did not come to be stays");
        }
        self.shared.release(&handle.namespace, id, &handle.id);
    }

    /// Nobody will start a task that goes with its end: it is deleted as soon as that works. One that runs goes with its end.
    pub fn give_up_task(&self, namespace: &Namespace, id: &ContainerId) {
        if let Ok(handle) = self.shared.home(namespace, id) {
            self.delete_left(&handle, vec![id.clone()]);
        }
    }

    /// Deletes a task that nobody will delete. If that fails it is tried again until it has worked, or somebody else has done it.
    async fn delete_unwanted(&self, handle: &Arc<Handle>, id: &ContainerId) {
        // Another one may have its name later.
        let made = handle.mirror().tasks.get(id).map(|record| record.created_at);
        let unwanted = || {
            let mirror = handle.mirror();
            mirror.tasks.get(id).is_some_and(|one| Some(one.created_at) == made && one.is_unwanted())
        };
        let mut pause = AGAIN;
        while unwanted() {
            match self.deleting(&handle.namespace, id, false).await {
                Ok(_) | Err(Error::UnknownContainer(_)) => return,
                Err(error) => warn!(container = %id, %error, "a container that has ended stays for now"),
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.shared.closing() => return,
            }
        }
    }

    /// Keeps a container's counters, if it can still be asked.
    pub(in crate::node) async fn measure(&self, handle: &Arc<Handle>, id: &ContainerId) {
        let Some(keeper) = handle.keeper() else { return };
        match keeper.stats(id).await {
            Ok(sample) => drop(self.change(handle, |mirror| mirror.keep_sample(id, sample))),
            Err(error) => debug!(container = %id, %error, "a container is not measured"),
        }
    }

    /// Ends the sandbox of a container that is gone, or of a start that came to nothing. If that fails it is tried again until it has
    /// worked: nobody else may ask for it. A process that begins anew clears such a sandbox itself.
    pub(in crate::node) async fn end_unwanted(&self, handle: &Arc<Handle>) {
        if unwanted_ended(handle).await {
            return;
        }
        let (closing, handle) = (self.shared.closing(), handle.clone());
        self.shared.spawn(async move {
            let again = async {
                let mut pause = AGAIN;
                loop {
                    sleep(pause).await;
                    if unwanted_ended(&handle).await {
                        return;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            };
            tokio::select! {
                () = again => {}
                () = closing => {}
            }
        });
    }

    /// Waits until the actor of a sandbox whose keeper is gone has noticed.
    async fn sandbox_over(&self, found: &Found) {
        let over = found.handle.until(|mirror| mirror.entry.exit.map(drop));
        if timeout(NOTICE, over).await.is_err() {
            debug!(sandbox = %found.handle.id, "a keeper is gone and its end is not noticed");
        }
    }
}

/// Asks for the end of a sandbox. False if it is still there.
async fn unwanted_ended(handle: &Handle) -> bool {
    match handle.ask(|reply| Request::Shutdown(Duration::ZERO, reply)).await {
        Ok(()) | Err(Error::UnknownSandbox(_)) => true,
        Err(error) => {
            warn!(sandbox = %handle.id, %error, "a sandbox that nobody needs stays for now");
            false
        }
    }
}
