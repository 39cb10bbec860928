//! The life of one node's process, which can end at any moment: before or after any document is written. From then on nothing
//! that the node still does has an effect: documents are not written, keepers hear nothing and answer nothing.

use std::cell::RefCell;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::keepers::FakeKeepers;
use crate::id::{ContainerId, ExecId, Namespace, SandboxId};
use crate::node::keeper::{
    Answer, Info, Keeper, Keepers, Launch, NewTask, Page, ProcessReport, Sample, Usage,
};
use crate::node::values::{Exit, Io};
use crate::sandbox::allowance::Allowance;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Life>>> = const { RefCell::new(None) };
}

type Witness = Box<dyn FnOnce() + Send>;

/// One node's.
pub struct Life {
    /// Moments until the end; none: it has none of its own.
    left: Mutex<Option<usize>>,
    witness: Mutex<Option<Witness>>,
    over: watch::Sender<bool>,
}

impl Life {
    /// The one of whatever is opened on this thread from now on.
    pub fn begin() -> Arc<Self> {
        let life =
            Self { left: Mutex::default(), witness: Mutex::default(), over: watch::Sender::new(false) };
        let life = Arc::new(life);
        CURRENT.with(|current| current.replace(Some(life.clone())));
        life
    }

    /// That of what is being opened.
    pub(in crate::node) fn current() -> Option<Arc<Self>> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// It ends after so many moments, of which each document has two. Never, if it is not said.
    pub fn ends_after(&self, moments: Option<usize>) {
        *self.left.lock().unwrap() = moments;
    }

    /// What is done at its end, in the middle of a write.
    pub fn at_its_end(&self, witness: impl FnOnce() + Send + 'static) {
        *self.witness.lock().unwrap() = Some(Box::new(witness));
    }

    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Answers when it is over.
    pub async fn over(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Answers while it is not over, and then never again.
    async fn alive(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }

    /// A moment between two writes; whether there is a next one.
    pub(in crate::node) fn goes_on(&self) -> bool {
        if self.is_over() {
            return false;
        }
        let mut left = self.left.lock().unwrap();
        if let Some(left) = &mut *left {
            if *left == 0 {
                self.witness.lock().unwrap().take().into_iter().for_each(|witness| witness());
                self.over.send_replace(true);
                return false;
            }
            *left -= 1;
        }
        true
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

/// Keepers as far as one node reaches them.
pub struct Reached {
    pub keepers: Arc<FakeKeepers>,
    pub life: Arc<Life>,
}

struct ReachedKeeper {
    keeper: Arc<dyn Keeper>,
    life: Arc<Life>,
}

impl Reached {
    fn keeper(&self, keeper: Arc<dyn Keeper>) -> Arc<dyn Keeper> {
        Arc::new(ReachedKeeper { keeper, life: self.life.clone() })
    }
}

#[async_trait]
impl Keepers for Reached {
    async fn spawn(&self, launch: Launch) -> Answer<Arc<dyn Keeper>> {
        self.life.alive().await;
        let spawned = self.keepers.spawn(launch).await;
        self.life.alive().await;
        spawned.map(|keeper| self.keeper(keeper))
    }

    async fn connect(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<Option<Arc<dyn Keeper>>> {
        self.life.alive().await;
        let found = self.keepers.connect(namespace, sandbox).await?;
        Ok(found.map(|keeper| self.keeper(keeper)))
    }

    async fn clear(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<()> {
        self.life.alive().await;
        self.keepers.clear(namespace, sandbox).await
    }

    fn address(&self, namespace: &Namespace, sandbox: &SandboxId) -> String {
        self.keepers.address(namespace, sandbox)
    }

    async fn last_words(&self, namespace: &Namespace, sandbox: &SandboxId) -> String {
        self.keepers.last_words(namespace, sandbox).await
    }
}

macro_rules! reached {
    ($($call:ident($($name:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Keeper for ReachedKeeper {
            $(async fn $call(&self, $($name: $type),*) -> Answer<$answer> {
                self.life.alive().await;
                let answer = self.keeper.$call($($name),*).await;
                self.life.alive().await;
                answer
            })*
        }
    };
}

reached! {
    create(task: NewTask) -> ();
    start(container: &ContainerId, exec: Option<&ExecId>) -> ();
    exec(container: &ContainerId, exec: &ExecId, spec: Vec<u8>, io: Io, forget: bool) -> ();
    kill(container: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> ();
    delete(container: &ContainerId, exec: Option<&ExecId>) -> Exit;
    processes(container: &ContainerId) -> Vec<ProcessReport>;
    pause(container: &ContainerId) -> ();
    resume(container: &ContainerId) -> ();
    resize(container: &ContainerId, exec: Option<&ExecId>, width: u32, height: u32) -> ();
    close_io(container: &ContainerId, exec: Option<&ExecId>) -> ();
    update(container: &ContainerId, resources: Vec<u8>) -> ();
    stats(container: &ContainerId) -> Sample;
    info() -> Info;
    kernel_log() -> Vec<u8>;
    ready() -> Info;
    ping() -> ();
    freeze() -> ();
    thaw() -> ();
    allow(allowance: Allowance) -> ();
    usage() -> Usage;
    events(from: u64, patience: Duration) -> Page;
    shutdown(grace: Duration) -> ();
}
