//! What all calls of the node share: who is there, and what is under way.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::Limits;
use super::error::{Error, Result};
use super::events::Bus;
use super::journal::Journal;
use super::keeper::Keepers;
use super::sandbox::handle::Handle;
use super::store::Store;
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
    /// Stirs when a container came to be, or an id became free.
    settled: watch::Sender<()>,
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
        let bus = Bus::open(journal.folder());
        Arc::new(Self {
            store,
            journal,
            bus,
            keepers,
            limits,
            registry: Mutex::default(),
            settled: watch::Sender::default(),
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
            self.settled.send_replace(());
        }
    }

    /// Whether this very sandbox is there.
    pub fn has(&self, handle: &Arc<Handle>) -> bool {
        self.sandbox(&handle.namespace, &handle.id).is_ok_and(|known| Arc::ptr_eq(&known, handle))
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
            self.settled.send_replace(());
        }
    }

    /// A container came to be.
    pub fn has_come(&self) {
        self.settled.send_replace(());
    }

    /// Waits while a container is being created.
    pub async fn settled(&self, namespace: &Namespace, id: &ContainerId) {
        let mut settled = self.settled.subscribe();
        let is_there = || self.home(namespace, id).is_ok_and(|handle| handle.mirror().tasks.contains_key(id));
        while self.is_container(namespace, id) && !is_there() {
            if settled.changed().await.is_err() {
                return;
            }
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

    /// Whether it does.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// The process is killed: nothing is ended, nothing goes on.
    #[cfg(any(test, feature = "testing"))]
    pub async fn kill(&self) {
        let mut all = std::mem::take(&mut *self.work.lock().unwrap_or_else(PoisonError::into_inner));
        // What still runs meanwhile is what was done just before.
        all.shutdown().await;
        self.bus.kill();
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
