//! Containers: what the sandbox holds, and the verbs on it, one per file.
//!
//! A [`Container`] exists from Prepare to Release; between Create and Delete it has a [`Task`]. A verb holds the
//! container's lock from its first check to its last effect, so that verbs on one container never mix; those on
//! different containers do not wait for each other. Exec alone lets go of it meanwhile ([`exec`]). Whether a task has ended is not
//! stored: its init's exit says so.

mod create;
mod delete;
mod error;
mod exec;
mod exits;
mod hooks;
mod interfaces;
mod kill;
mod list;
pub mod outbox;
mod pause;
mod prepare;
mod release;
mod shutdown;
mod start;
mod state;
mod stats;
mod stdio;
mod update;
mod wait;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prost::bytes::Bytes;
use tokio::sync::{MappedMutexGuard, Mutex as AsyncMutex, MutexGuard, broadcast, watch};
use tokio::task::AbortHandle;

pub use self::delete::Deleted;
pub use self::error::Error;
pub use self::exec::ExecRequest;
use self::exits::MemoryWatch;
pub use self::exits::{Event, Happening};
use self::interfaces::Interfaces;
pub use self::kill::Target;
pub use self::list::{Described, Member};
use self::outbox::{Consumer, Outbox};
use self::shutdown::Ending;
pub use self::state::Status;

use crate::cgroup::{Cgroup, Tree};
use crate::config::Config;
use crate::oci::Spec;
use crate::process::Process;
use crate::process::launch::Channel;
use crate::reaper::Reaper;
use crate::rootfs::{Disks, Rootfs};
use crate::server::streams::Streams;

/// Events that a reader may lag behind.
const EVENTS: usize = 4096;

type Result<T> = std::result::Result<T, Error>;

/// Everything that runs in the guest.
#[derive(Debug)]
pub struct Sandbox {
    config: Config,
    reaper: Reaper,
    streams: Streams,
    tree: Tree,
    disks: Disks,
    events: broadcast::Sender<Event>,
    /// Received from by whoever will tell of an exit, so that it closes when all exits have been told.
    announcers: watch::Sender<()>,
    containers: Mutex<Containers>,
    ending: Ending,
}

#[derive(Debug, Default)]
struct Containers {
    by_id: HashMap<String, Arc<Container>>,
    /// The shutdown has begun: nothing new starts. What there is can still be asked about, killed and deleted.
    closing: bool,
}

/// A prepared container.
#[derive(Debug)]
pub struct Container {
    id: String,
    spec: Spec,
    /// As it came, for whoever asks.
    spec_json: Bytes,
    state: AsyncMutex<State>,
    outbox: Arc<Outbox>,
}

/// What a verb holds the lock of.
#[derive(Debug)]
struct State {
    rootfs: Option<Rootfs>,
    task: Option<Task>,
}

/// A container between Create and Delete.
#[derive(Debug)]
struct Task {
    init: Arc<Process>,
    /// By pid, until they are deleted.
    execs: BTreeMap<u32, Arc<Process>>,
    phase: Phase,
    cgroup: Arc<Cgroup>,
    /// Of the network namespace of init; `None` if init ended before they were looked for.
    interfaces: Option<Interfaces>,
    memory: Arc<MemoryWatch>,
    /// The task that runs `memory`.
    watching: AbortHandle,
}

/// How far the verbs have brought a task.
#[derive(Debug)]
enum Phase {
    /// Init waits at the other end for Start.
    Created(Channel),
    /// Its program was executed.
    Running,
    /// And frozen since.
    Paused,
}

impl Task {
    fn status(&self) -> Status {
        match self.phase {
            _ if self.init.exit().is_some() => Status::Stopped,
            Phase::Created(_) => Status::Created,
            Phase::Running => Status::Running,
            Phase::Paused => Status::Paused,
        }
    }

    /// Init for 0.
    fn process(&self, container: &str, pid: u32) -> Result<&Arc<Process>> {
        if pid == 0 || pid == self.init.pid.as_raw() as u32 {
            return Ok(&self.init);
        }
        self.execs.get(&pid).ok_or_else(|| Error::NoProcess { container: container.to_owned(), pid })
    }
}

impl Sandbox {
    /// An empty sandbox.
    pub fn new(config: Config, reaper: Reaper, streams: Streams, tree: Tree) -> Self {
        let disks = Disks::new(config.dev.clone(), config.sys_block.clone(), config.run.join("disks"));
        let (events, _) = broadcast::channel(EVENTS);
        let (announcers, containers, ending) = Default::default();
        Self { config, reaper, streams, tree, disks, events, announcers, containers, ending }
    }

    /// Exits and out-of-memory kills from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What happens to one container: what nobody has had, then the rest as it comes.
    pub fn follow(&self, id: &str) -> Result<Consumer> {
        Ok(self.find(id)?.outbox.follow())
    }

    fn find(&self, id: &str) -> Result<Arc<Container>> {
        self.containers().by_id.get(id).cloned().ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    /// The same, for what would begin something: refused once the shutdown has begun.
    fn find_open(&self, id: &str) -> Result<Arc<Container>> {
        if self.containers().closing {
            return Err(Error::ShuttingDown);
        }
        self.find(id)
    }

    /// All containers, in the order of their ids.
    fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.containers().by_id.values().cloned().collect();
        all.sort_by(|a: &Arc<Container>, b| a.id.cmp(&b.id));
        all
    }

    fn containers(&self) -> std::sync::MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container {
    /// Takes the lock, for a verb that needs a task.
    async fn task(&self) -> Result<MappedMutexGuard<'_, Task>> {
        let state = self.state.lock().await;
        MutexGuard::try_map(state, |state| state.task.as_mut()).map_err(|_| Error::NoTask(self.id.clone()))
    }
}
