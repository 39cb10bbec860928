//! The one door through which news come in: what is known of a sandbox changes, what follows is told and written down, and
//! what has to be done about it is begun.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, warn};

use super::Node;
use super::error::{Error, Result};
use super::events::What;
use super::journal::SandboxEntry;
use super::keeper::{Keeper, Page};
use super::sandbox::handle::{Handle, Request};
use super::sandbox::mirror::{Mirror, News};
use crate::id::ContainerId;

impl Node {
    /// Changes what is known of a sandbox, tells what follows, writes it down, and does what has to be done about it.
    pub(in crate::node) fn change(
        &self,
        handle: &Arc<Handle>,
        change: impl FnOnce(&mut Mirror) -> News,
    ) -> News {
        let shared = &self.shared;
        let news = {
            let mut mirror = handle.mirror();
            let before = mirror.entry.cursor;
            let news = change(&mut mirror);
            for (container, what) in &news.told {
                if let (Some(container), What::Created { .. }) = (container, what) {
                    // One that was made at the keeper's own task API has not been announced.
                    let _ = shared.reserve(&handle.namespace, container, &handle.id);
                }
            }
            if !news.told.is_empty() {
                mirror.entry.revision += 1;
                let commit = Some((mirror.entry.created_at, mirror.entry.revision));
                let mut told = news.told.clone();
                told.retain(|(container, what)| !mirror.was_told(container.as_ref(), what));
                shared.bus.tell_all(&handle.namespace, &handle.id, commit, told.into_iter());
            }
            self.write_down(handle, &mirror, &news, before);
            news
        };
        handle.changed();
        if news.told.iter().any(|(_, what)| matches!(what, What::Created { .. })) {
            shared.has_come();
        }
        for container in &news.gone {
            shared.release(&handle.namespace, container, &handle.id);
        }
        self.follow_up(handle, &news);
        news
    }

    /// Changes what is written down of a sandbox and is not told. What cannot be written down does not change.
    pub(in crate::node) fn amend(
        &self,
        handle: &Arc<Handle>,
        amend: impl FnOnce(&mut SandboxEntry) -> Result<()>,
    ) -> Result<()> {
        {
            let mut mirror = handle.mirror();
            let mut entry = mirror.entry.clone();
            amend(&mut entry)?;
            self.shared.journal.sandboxes.put(&handle.namespace, entry.clone())?;
            mirror.entry = entry;
        }
        handle.changed();
        Ok(())
    }

    /// Whether the last change of a sandbox that was told is written down; if it is not, it is tried once more.
    pub(in crate::node) fn is_written(&self, handle: &Handle) -> Result<()> {
        let (mirror, journal) = (handle.mirror(), &self.shared.journal.sandboxes);
        let kept = journal.find(&handle.namespace, handle.id.as_str());
        match kept.is_some_and(|kept| kept.revision == mirror.entry.revision) {
            true => Ok(()),
            false => journal.put(&handle.namespace, mirror.entry.clone()),
        }
    }

    /// Told first and written down afterwards: what was not told must not be lost. The sandbox's entry comes last; a process
    /// that begins with an older one finds in the bus's tail what was told already.
    fn write_down(&self, handle: &Handle, mirror: &Mirror, news: &News, before: u64) {
        let journal = &self.shared.journal;
        let failed = |error: Error| {
            error!(sandbox = %handle.id, error = &error as &dyn std::error::Error, "the journal cannot be written");
        };
        for container in &news.changed {
            if let Some(record) = mirror.tasks.get(container) {
                journal.tasks.put(&handle.namespace, record.clone()).unwrap_or_else(failed);
            }
        }
        for container in &news.gone {
            journal.tasks.remove(&handle.namespace, container.as_str()).unwrap_or_else(failed);
            if let Err(error) = journal.remove_bundle(&handle.namespace, container) {
                warn!(%container, %error, "a bundle stays");
            }
        }
        if news.entry_changed || !news.told.is_empty() || mirror.entry.cursor != before {
            journal.sandboxes.put(&handle.namespace, mirror.entry.clone()).unwrap_or_else(failed);
        }
    }

    fn follow_up(&self, handle: &Arc<Handle>, news: &News) {
        for container in &news.ended {
            let (node, handle, container) = (self.clone(), handle.clone(), container.clone());
            self.shared.spawn(async move { node.task_ended(&handle, &container).await });
        }
        for container in self.to_measure(handle, news) {
            let (node, handle) = (self.clone(), handle.clone());
            self.shared.spawn(async move { node.measure(&handle, &container).await });
        }
        if news.vm_over {
            handle.vm_over.notify_one();
        }
        if news.vm_ready {
            let handle = handle.clone();
            self.shared.spawn(async move { learn_pid(&handle).await });
        }
        if !news.gone.is_empty() {
            self.maybe_over(handle);
        }
    }

    /// Containers whose counters are to be read, for they may soon be the last.
    fn to_measure(&self, handle: &Handle, news: &News) -> Vec<ContainerId> {
        if news.told.is_empty() {
            return Vec::new();
        }
        let mut mirror = handle.mirror();
        let told = news.told.iter().filter_map(|(container, what)| Some((container.as_ref()?, what)));
        told.filter(|(container, what)| mirror.wants_sample(container, matches!(what, What::Started { .. })))
            .map(|(container, _)| container.clone())
            .collect()
    }

    /// A sandbox of one container ends with it, and the keeper of a sandbox whose VM is over with the last of its tasks.
    pub(in crate::node) fn maybe_over(&self, handle: &Arc<Handle>) {
        let (own, over) = {
            let mirror = handle.mirror();
            if !mirror.has_no_tasks() {
                return;
            }
            (mirror.entry.own_of_container, mirror.entry.exit.is_some())
        };
        let (node, handle) = (self.clone(), handle.clone());
        self.shared.spawn(async move {
            let ended = match (own, over) {
                (true, _) => return node.end_unwanted(&handle).await,
                (false, true) => handle.ask(|reply| Request::Stop(Duration::ZERO, reply)).await,
                (false, false) => return,
            };
            debug!(sandbox = %handle.id, ?ended, "the last task of the sandbox is gone");
        });
    }

    /// Takes what a keeper has told since the last time.
    pub(in crate::node) fn take(&self, handle: &Arc<Handle>, page: Page) -> News {
        self.change(handle, |mirror| mirror.take(page))
    }

    /// Takes everything that a keeper has to tell by now: whoever has just had an answer from it sees what it has caused.
    pub(in crate::node) async fn catch_up(
        &self,
        handle: &Arc<Handle>,
        keeper: &Arc<dyn Keeper>,
    ) -> Result<()> {
        loop {
            let from = handle.mirror().entry.cursor;
            let page = keeper.events(from, Duration::ZERO).await?;
            if page.events.is_empty() && page.lost == 0 {
                return Ok(());
            }
            let news = self.take(handle, page);
            if news.look {
                self.look(handle, keeper).await;
            }
        }
    }

    /// Looks at the processes of every task, where events were lost.
    pub(in crate::node) async fn look(&self, handle: &Arc<Handle>, keeper: &Arc<dyn Keeper>) {
        let containers: Vec<_> = handle.mirror().tasks.keys().cloned().collect();
        for container in containers {
            match keeper.processes(&container).await {
                Ok(reports) => drop(self.change(handle, |mirror| mirror.look(&container, &reports))),
                Err(error) if error.is_not_found() => {
                    let exit = super::task::record::lost_now();
                    self.change(handle, |mirror| {
                        let mut news = News::default();
                        mirror.forget(&container, exit, &mut news);
                        news
                    });
                }
                Err(error) => debug!(%container, %error, "a keeper does not tell a task's processes"),
            }
        }
    }
}

/// The VMM's process is known once the guest has booted.
async fn learn_pid(handle: &Handle) {
    let Some(keeper) = handle.keeper() else { return };
    match keeper.info().await {
        Ok(info) => handle.mirror().entry.pid = info.vmm_pid,
        Err(error) => debug!(sandbox = %handle.id, %error, "the keeper does not tell of itself"),
    }
}
