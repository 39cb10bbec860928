//! What all calls of the node share: who is there, and the one door through which news come in.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, warn};

use super::error::{Error, Result};
use super::events::{Bus, What};
use super::journal::Journal;
use super::keeper::{Keeper, Keepers, Page};
use super::sandbox::handle::{Handle, Request};
use super::sandbox::mirror::{Mirror, News};
use super::store::Store;
use super::{Limits, Node};
use crate::id::{ContainerId, Namespace, SandboxId};

/// How long what is under way may take to end when the node closes.
const FAREWELL: Duration = Duration::from_secs(5);

/// What all calls share.
pub struct Shared {
    pub store: Arc<Store>,
    pub journal: Journal,
    pub bus: Bus,
    pub keepers: Arc<dyn Keepers>,
    pub limits: Limits,
    registry: Mutex<Registry>,
    work: Mutex<JoinSet<()>>,
    closing: watch::Sender<bool>,
}

/// Who is there.
#[derive(Default)]
struct Registry {
    sandboxes: BTreeMap<(Namespace, SandboxId), Arc<Handle>>,
    /// In which sandbox a container is, or is about to be.
    containers: BTreeMap<(Namespace, ContainerId), SandboxId>,
}

impl Shared {
    pub fn new(store: Arc<Store>, journal: Journal, keepers: Arc<dyn Keepers>, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            store,
            journal,
            bus: Bus::default(),
            keepers,
            limits,
            registry: Mutex::default(),
            work: Mutex::default(),
            closing: watch::Sender::new(false),
        })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sandbox whose id is free.
    pub fn add(&self, handle: Arc<Handle>) -> Result<()> {
        let key = (handle.namespace.clone(), handle.id.clone());
        let mut registry = self.registry();
        if registry.sandboxes.contains_key(&key) {
            return Err(Error::SandboxExists(handle.id.clone()));
        }
        registry.sandboxes.insert(key, handle);
        Ok(())
    }

    /// Removes this very sandbox.
    pub fn remove(&self, handle: &Arc<Handle>) {
        let key = (handle.namespace.clone(), handle.id.clone());
        let mut registry = self.registry();
        if registry.sandboxes.get(&key).is_some_and(|known| Arc::ptr_eq(known, handle)) {
            registry.sandboxes.remove(&key);
            registry
                .containers
                .retain(|(namespace, _), sandbox| *namespace != handle.namespace || *sandbox != handle.id);
        }
    }

    /// The sandbox called `id`.
    pub fn sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<Arc<Handle>> {
        let known = self.registry().sandboxes.get(&(namespace.clone(), id.clone())).cloned();
        known.ok_or_else(|| Error::UnknownSandbox(id.clone()))
    }

    /// All sandboxes, or those of one namespace.
    pub fn sandboxes(&self, namespace: Option<&Namespace>) -> Vec<Arc<Handle>> {
        let registry = self.registry();
        let wanted = |handle: &&Arc<Handle>| namespace.is_none_or(|wanted| handle.namespace == *wanted);
        registry.sandboxes.values().filter(wanted).cloned().collect()
    }

    /// The sandbox that container `id` is in.
    pub fn home(&self, namespace: &Namespace, id: &ContainerId) -> Result<Arc<Handle>> {
        let registry = self.registry();
        let sandbox = registry.containers.get(&(namespace.clone(), id.clone()));
        let handle =
            sandbox.and_then(|sandbox| registry.sandboxes.get(&(namespace.clone(), sandbox.clone())));
        handle.cloned().ok_or_else(|| Error::UnknownContainer(id.clone()))
    }

    /// Whether a container's id is taken.
    pub fn is_container(&self, namespace: &Namespace, id: &ContainerId) -> bool {
        self.registry().containers.contains_key(&(namespace.clone(), id.clone()))
    }

    /// Takes a container's id, if it is free.
    pub fn reserve(&self, namespace: &Namespace, id: &ContainerId, sandbox: &SandboxId) -> Result<()> {
        let mut registry = self.registry();
        let key = (namespace.clone(), id.clone());
        if registry.containers.contains_key(&key) {
            return Err(Error::ContainerExists(id.clone()));
        }
        registry.containers.insert(key, sandbox.clone());
        Ok(())
    }

    /// Gives a container's id back, if it was this sandbox's.
    pub fn release(&self, namespace: &Namespace, id: &ContainerId, sandbox: &SandboxId) {
        let mut registry = self.registry();
        let key = (namespace.clone(), id.clone());
        if registry.containers.get(&key) == Some(sandbox) {
            registry.containers.remove(&key);
        }
    }

    /// Runs something that must go on when whoever asked for it has gone.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut all = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        all.spawn(work);
    }

    /// Answers when the node closes.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        async move {
            // An error means that the node is gone: that too is the end.
            let _ = closing.wait_for(|closing| *closing).await;
        }
    }

    /// Ends everything that was spawned.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        let mut all = std::mem::take(&mut *self.work.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while all.join_next().await.is_some() {} };
        if timeout(FAREWELL, ended).await.is_err() {
            debug!("what is still under way is given up");
            all.shutdown().await;
        }
        self.bus.close();
    }
}

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
                shared.bus.tell(&handle.namespace, &handle.id, container.as_ref(), what.clone());
            }
            self.write_down(handle, &mirror, &news, before);
            news
        };
        handle.changed();
        for container in &news.gone {
            shared.release(&handle.namespace, container, &handle.id);
        }
        self.follow_up(handle, &news);
        news
    }

    /// Told first and written down afterwards: what was not told must not be lost.
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

    /// A sandbox of one container ends with it, and the keeper of a sandbox whose VM is over with the last of its tasks.
    fn maybe_over(&self, handle: &Arc<Handle>) {
        let (own, over) = {
            let mirror = handle.mirror();
            if !mirror.tasks.is_empty() {
                return;
            }
            (mirror.entry.own_of_container, mirror.entry.exit.is_some())
        };
        let handle = handle.clone();
        self.shared.spawn(async move {
            let ended = match (own, over) {
                (true, _) => handle.ask(|reply| Request::Shutdown(Duration::ZERO, reply)).await,
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
