//! One sandbox as the rest of the node holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Started;
use super::mirror::Mirror;
use crate::id::{Namespace, SandboxId};
use crate::node::error::{Error, Kind, Result};
use crate::node::keeper::{Keeper, KeeperError};

/// How many who list everything may ask one keeper at once.
const LISTS: usize = 4;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// What is asked of the task that begins and ends a sandbox.
pub enum Request {
    /// Start it.
    Start(Reply<Started>),
    /// End it; it stays known.
    Stop(Duration, Reply<()>),
    /// End it and forget it.
    Shutdown(Duration, Reply<()>),
}

/// A sandbox.
pub struct Handle {
    /// Whose.
    pub namespace: Namespace,
    /// Its id.
    pub id: SandboxId,
    /// To its actor.
    pub requests: mpsc::Sender<Request>,
    /// Tells the actor that the VM is over, by the keeper's word.
    pub vm_over: Notify,
    /// When those who asked for the end lose patience: the earliest of all. Nothing while nobody waits for an end.
    patience: watch::Sender<Option<Instant>>,
    /// Held by whoever pauses or resumes it.
    pub standing: tokio::sync::Mutex<()>,
    /// Turns of those who list everything.
    pub lists: Arc<Semaphore>,
    /// Held by whoever starts it or changes what it is made of.
    pub changing: tokio::sync::Mutex<()>,
    mirror: Mutex<Mirror>,
    keeper: Mutex<Option<Arc<dyn Keeper>>>,
    changes: watch::Sender<u64>,
}

impl Handle {
    /// One that has no keeper yet.
    pub fn new(namespace: Namespace, mirror: Mirror, requests: mpsc::Sender<Request>) -> Self {
        Self {
            namespace,
            id: mirror.entry.create.id.clone(),
            requests,
            vm_over: Notify::new(),
            patience: watch::Sender::new(None),
            standing: tokio::sync::Mutex::new(()),
            lists: Arc::new(Semaphore::new(LISTS)),
            changing: tokio::sync::Mutex::default(),
            mirror: Mutex::new(mirror),
            keeper: Mutex::new(None),
            changes: watch::Sender::new(0),
        }
    }

    /// What is known of it. Never to be held across a wait; the registry's and the bus's locks come after this one.
    pub fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its keeper, while it has one.
    pub fn keeper(&self) -> Option<Arc<dyn Keeper>> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It runs and has none that could be reached, which may pass.
    pub fn unreachable(&self) -> Error {
        let message =
            format!("the keeper of sandbox {} cannot be reached for the moment: ask again", self.id);
        KeeperError::Refused { kind: Kind::Unavailable, message }.into()
    }

    /// Why `verb` cannot be done.
    pub fn refusal(&self, verb: &'static str, state: &'static str) -> Error {
        Error::SandboxState { sandbox: self.id.clone(), verb, state }
    }

    /// It has a keeper, or none any more.
    pub fn set_keeper(&self, keeper: Option<Arc<dyn Keeper>>) {
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
    }

    /// Wakes whoever waits for something to change.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until `look` finds in the mirror what is waited for.
    pub async fn until<T>(&self, mut look: impl FnMut(&Mirror) -> Option<T>) -> Result<T> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = look(&self.mirror()) {
                return Ok(found);
            }
            changes.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Cuts short a Stop of somebody who has more patience than `grace`: whoever calls this asks for the end next.
    pub fn interrupt(&self, grace: Duration) {
        let asked = Instant::now() + grace;
        self.patience.send_if_modified(|patience| {
            let sooner = patience.is_none_or(|patience| asked < patience);
            if sooner {
                *patience = Some(asked);
            }
            sooner
        });
    }

    /// When whoever waits for the end loses patience, as it changes.
    pub fn patience(&self) -> watch::Receiver<Option<Instant>> {
        self.patience.subscribe()
    }

    /// Nobody waits for an end any more.
    pub fn has_time(&self) {
        self.patience.send_replace(None);
    }

    /// Asks the actor. One that has ended knows nothing of the sandbox any more.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let unknown = || Error::UnknownSandbox(self.id.clone());
        self.requests.send(make(reply)).await.map_err(|_| unknown())?;
        answer.await.map_err(|_| unknown())?
    }
}
