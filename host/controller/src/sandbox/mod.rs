//! A sandbox: one VM and the tasks in it.
//!
//! [`Sandbox`] is a handle that sends requests; [`actor`] is the one task that owns the state and answers them. A request
//! about a single task is only routed here: its own actor does it ([`crate::task`]).

mod actor;
pub mod allowance;
pub mod boot;
pub mod history;
pub mod options;
pub mod record;
pub mod residue;
pub mod slots;
pub mod state;
pub mod timeline;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use theca_vmm_protocol::Stats;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::agent::{CgroupFiles, Connector, GuestInfo};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::install::Installation;
use crate::run_dir::RunDir;
use crate::task::rootfs::RootfsMount;
use crate::task::stdio::IoRequest;
use crate::task::stdio::log::LogOptions;
use crate::task::stdio::remote::Remotes;
use crate::task::{TaskHandle, TaskRequest};
use crate::vmm::VmEnd;

pub use allowance::{Allowance, CpuQuota};
pub use history::History;
pub use options::SandboxOptions;
pub use timeline::Timeline;

/// Where an answer goes. An asker that went away is no error.
pub type Reply<T> = oneshot::Sender<Result<T>>;

/// Requests that may wait for the actor.
const QUEUE: usize = 64;

/// What a sandbox is begun with.
pub struct Setup {
    /// Its folder, which exists and goes with it.
    pub folder: RunDir,
    /// The bundle that `start` was called in.
    pub bundle: PathBuf,
    /// What it is made of.
    pub options: SandboxOptions,
    /// Theca's files on this machine.
    pub installation: Installation,
    /// The folder that takes images of folders; made when it is needed.
    pub scratch: PathBuf,
    /// How its agent is reached.
    pub connector: Arc<dyn Connector>,
    /// Begun with the keeper.
    pub timeline: Timeline,
}

/// A task to create.
#[derive(Debug)]
pub struct CreateTask {
    /// Its container.
    pub id: ContainerId,
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// What its root is made of; empty: the bundle's own root folder.
    pub rootfs: Vec<RootfsMount>,
    /// Its init's input and output.
    pub io: IoRequest,
    /// Where output is kept beside that.
    pub log: Option<LogOptions>,
    /// Bound of the tmpfs upper; 0 is the guest's default.
    pub tmpfs_bytes: u64,
}

/// The sandbox as it stands.
#[derive(Clone, Debug, Default)]
pub struct SandboxInfo {
    /// The VMM's process; 0 while there is none.
    pub vmm_pid: u32,
    /// Whether the whole VM stands still.
    pub paused: bool,
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// What its containers may use of both.
    pub allowance: Allowance,
    /// Those that are there or are being created.
    pub containers: Vec<ContainerId>,
    /// How the VM ended, if it did and nobody asked it to.
    pub vm_failure: Option<Arc<VmEnd>>,
    /// What the guest is, if it answers.
    pub guest: Option<GuestInfo>,
    /// Points in the start.
    pub timeline: Vec<(String, Duration)>,
}

enum Request {
    Create(Box<CreateTask>, Reply<u32>),
    Find(ContainerId, Reply<TaskHandle>),
    Info(Reply<SandboxInfo>),
    KernelLog(Reply<Vec<u8>>),
    Ready(Reply<SandboxInfo>),
    Metrics(Reply<SandboxMetrics>),
    Ping(Reply<()>),
    Pause(Reply<()>),
    Resume(Reply<()>),
    Allow(Allowance, Reply<()>),
    Shutdown { how: Shutdown, reply: Reply<()> },
    Terminate,
}

/// How long a guest may take to answer a ping. One on a busy host is slow and well: whoever takes it for hung asks several times.
pub const LONGEST_PING: Duration = Duration::from_secs(15);

/// What a sandbox uses.
#[derive(Clone, Debug, Default)]
pub struct SandboxMetrics {
    /// What the guest is, if it answers.
    pub guest: Option<GuestInfo>,
    /// Counters of all its containers together.
    pub files: CgroupFiles,
    /// Counters of its VM.
    pub vm: Stats,
    /// The VMM's process; 0 while there is none.
    pub vmm_pid: u32,
}

/// How much of a sandbox is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It, if it has no task and is not held.
    IfUnused,
    /// It, with all tasks: they have this long between SIGTERM and SIGKILL.
    Whole {
        /// None is the default: short.
        grace: Option<Duration>,
    },
}

/// A sandbox's handle; clones name the same one.
#[derive(Clone)]
pub struct Sandbox {
    requests: mpsc::Sender<Request>,
    history: History,
    remotes: Remotes,
}

impl Sandbox {
    /// Begins a sandbox. The join handle ends when the sandbox and its folder are gone; the keeper ends then.
    pub fn begin(setup: Setup) -> (Self, JoinHandle<()>) {
        let (requests, inbox) = mpsc::channel(QUEUE);
        let history = History::default();
        let remotes = Remotes::default();
        let actor = actor::Actor::new(setup, inbox, history.clone(), remotes.clone());
        (Self { requests, history, remotes }, tokio::spawn(actor.run()))
    }

    /// Creates a task, booting the VM if it does not run yet, and answers the pid that stands for it on the host.
    pub async fn create(&self, task: CreateTask) -> Result<u32> {
        self.ask(|reply| Request::Create(Box::new(task), reply)).await
    }

    /// The task of container `id`.
    pub async fn task(&self, id: &ContainerId) -> Result<TaskHandle> {
        self.ask(|reply| Request::Find(id.clone(), reply)).await
    }

    /// Asks the task of container `id`.
    pub async fn ask_task<T>(
        &self,
        id: &ContainerId,
        make: impl FnOnce(Reply<T>) -> TaskRequest,
    ) -> Result<T> {
        self.task(id).await?.ask(make).await
    }

    /// The sandbox as it stands.
    pub async fn info(&self) -> Result<SandboxInfo> {
        self.ask(Request::Info).await
    }

    /// The guest's kernel log: from the agent while it answers, else what the console kept.
    pub async fn kernel_log(&self) -> Result<Vec<u8>> {
        self.ask(Request::KernelLog).await
    }

    /// Ends the sandbox: without tasks, or with them too if `now`. Answers when VM and folder are gone. With tasks and not
    /// `now`, nothing happens.
    pub async fn shutdown(&self, now: bool) -> Result<()> {
        let how = if now { Shutdown::Whole { grace: None } } else { Shutdown::IfUnused };
        self.ask(|reply| Request::Shutdown { how, reply }).await
    }

    /// Ends the sandbox; its tasks have `grace` between SIGTERM and SIGKILL. Answers when VM and folder are gone.
    pub async fn stop(&self, grace: Duration) -> Result<()> {
        let how = Shutdown::Whole { grace: Some(grace) };
        self.ask(|reply| Request::Shutdown { how, reply }).await
    }

    /// Waits until the agent answers, or says why it will not.
    pub async fn ready(&self) -> Result<SandboxInfo> {
        self.ask(Request::Ready).await
    }

    /// What the sandbox uses.
    pub async fn metrics(&self) -> Result<SandboxMetrics> {
        self.ask(Request::Metrics).await
    }

    /// Whether the agent answers, within [`LONGEST_PING`].
    pub async fn ping(&self) -> Result<()> {
        self.ask(Request::Ping).await
    }

    /// Stops the whole VM where it is. Idempotent. What needs the guest is refused then.
    pub async fn pause(&self) -> Result<()> {
        self.ask(Request::Pause).await
    }

    /// Lets it go on. Idempotent.
    pub async fn resume(&self) -> Result<()> {
        self.ask(Request::Resume).await
    }

    /// Changes what its containers may use together: at once, or where there is no VM yet from its boot on.
    pub async fn allow(&self, allowance: Allowance) -> Result<()> {
        self.ask(|reply| Request::Allow(allowance, reply)).await
    }

    /// Streams that its processes have as input and output.
    pub fn remotes(&self) -> &Remotes {
        &self.remotes
    }

    /// What has happened in it.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Ends the sandbox whatever runs in it, without waiting for it: the keeper was told to by a signal.
    pub async fn terminate(&self) {
        let _ = self.requests.send(Request::Terminate).await;
    }

    async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).await.map_err(|_| Error::Gone)?;
        answer.await.map_err(|_| Error::Gone)?
    }
}

#[cfg(test)]
#[path = "sandbox_test.rs"]
mod tests;
