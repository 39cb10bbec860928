//! What the node asks of keepers, as traits: the real ones speak ttrpc (crate `api`), tests use fakes.
//!
//! A keeper owns its sandbox's VM and tasks and outlives the node's process; the node only drives it, and follows what
//! happens there by its numbered events. Every call is bounded in time by the implementation.

mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::error::Kind;
use super::values::{Exit, Io, Mount, Payload};
use crate::id::{ContainerId, ExecId, Namespace, SandboxId};
use crate::sandbox::allowance::Allowance;

pub use self::report::{Happened, Happening, Info, Page, Phase, ProcessReport, Sample, Usage};

/// Why a keeper did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeeperError {
    /// It answered with an error.
    #[error("{message}")]
    Refused {
        /// The kind of error.
        kind: Kind,
        /// The keeper's words.
        message: String,
    },
    /// The connection to it broke: it has ended, or is ending.
    #[error("the sandbox ended while it was asked to {asked}")]
    Gone {
        /// What was asked.
        asked: &'static str,
    },
    /// It could not be started.
    #[error("failed to start the sandbox's keeper: {0}")]
    Spawn(String),
    /// Something of it could not be removed.
    #[error("something of the sandbox stays: {0}")]
    Residue(String),
}

impl KeeperError {
    /// What kind of error it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { kind, .. } => *kind,
            Self::Gone { .. } => Kind::Unavailable,
            Self::Spawn(_) | Self::Residue(_) => Kind::Internal,
        }
    }

    /// Whether the keeper itself is gone.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether it says that container or process are not, or no longer, there.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Kind::NotFound
    }
}

/// What a keeper answers.
pub type Answer<T> = Result<T, KeeperError>;

/// A keeper to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Whose namespace.
    pub namespace: Namespace,
    /// The sandbox's id.
    pub sandbox: SandboxId,
    /// The folder it is started in; the implementation makes it if it is not there.
    pub bundle: PathBuf,
    /// Processors; 0 is the keeper's default.
    pub vcpus: u32,
    /// RAM; 0 is the keeper's default.
    pub memory_mib: u64,
    /// What its containers may use of both.
    pub allowance: Allowance,
    /// Added to the guest kernel's command line.
    pub kernel_args: Vec<String>,
    /// The sandbox serves one task, whose root these mounts are: with any that are disks, the VM boots at once, else with
    /// the task. `None`: it serves any number, boots at once and lasts until it is told to end.
    pub one_task: Option<Vec<Mount>>,
}

/// Keepers of this machine.
#[async_trait]
pub trait Keepers: Send + Sync {
    /// Starts a keeper and connects to it, as soon as it listens. What an earlier one of that name has left is removed
    /// first. A failure may leave something, which [`Keepers::clear`] removes; so may dropping the future.
    async fn spawn(&self, launch: Launch) -> Answer<Arc<dyn Keeper>>;
    /// Connects to a keeper that runs; `None` when none serves.
    async fn connect(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<Option<Arc<dyn Keeper>>>;
    /// Kills what runs of a sandbox and removes what lies about. Idempotent, bounded in time.
    async fn clear(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<()>;
    /// Where the keeper's task API is: `ttrpc+unix://` and a path.
    fn address(&self, namespace: &Namespace, sandbox: &SandboxId) -> String;
    /// The last lines of the guest's console and the keeper's log, printable; empty when there are none. To be asked before
    /// [`Keepers::clear`].
    async fn last_words(&self, namespace: &Namespace, sandbox: &SandboxId) -> String;
}

/// A task to create in a keeper's sandbox.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its container.
    pub container: ContainerId,
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// What its root is made of; empty: the bundle's own root folder.
    pub rootfs: Vec<Mount>,
    /// Its init's input and output.
    pub io: Io,
    /// Options of the task for the keeper.
    pub options: Option<Payload>,
}

/// One sandbox's keeper. A missing `exec` means the container's init.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Makes a task, without running it.
    async fn create(&self, task: NewTask) -> Answer<()>;
    /// Lets a created task or an added process run.
    async fn start(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<()>;
    /// Adds a process, an OCI `Process` as JSON; with `forget` one that the keeper forgets a while after its end.
    async fn exec(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        spec: Vec<u8>,
        io: Io,
        forget: bool,
    ) -> Answer<()>;
    /// Sends a signal to a process, to all of the container's if `all`.
    async fn kill(
        &self,
        container: &ContainerId,
        exec: Option<&ExecId>,
        signal: u32,
        all: bool,
    ) -> Answer<()>;
    /// Forgets an ended process, or a task that has ended or was not started, and answers how it ended.
    async fn delete(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<Exit>;
    /// The container's processes, its init first.
    async fn processes(&self, container: &ContainerId) -> Answer<Vec<ProcessReport>>;
    /// Freezes a container.
    async fn pause(&self, container: &ContainerId) -> Answer<()>;
    /// Thaws it.
    async fn resume(&self, container: &ContainerId) -> Answer<()>;
    /// Sets a terminal's size; nothing without a terminal.
    async fn resize(
        &self,
        container: &ContainerId,
        exec: Option<&ExecId>,
        width: u32,
        height: u32,
    ) -> Answer<()>;
    /// Ends the input once what was written has been read.
    async fn close_io(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<()>;
    /// Changes a container's limits: an OCI `LinuxResources` as JSON.
    async fn update(&self, container: &ContainerId, resources: Vec<u8>) -> Answer<()>;
    /// Reads a container's counters.
    async fn stats(&self, container: &ContainerId) -> Answer<Sample>;
    /// The sandbox as it stands. Bounded to a few seconds even if the guest hangs.
    async fn info(&self) -> Answer<Info>;
    /// The guest's kernel log.
    async fn kernel_log(&self) -> Answer<Vec<u8>>;
    /// Answers once the guest's agent does, booting the VM if nothing has yet; or why it does not.
    async fn ready(&self) -> Answer<Info>;
    /// OK when the guest's agent answers, within less than half a minute.
    async fn ping(&self) -> Answer<()>;
    /// Stops the whole VM where it is. Idempotent.
    async fn freeze(&self) -> Answer<()>;
    /// Lets it go on. Idempotent.
    async fn thaw(&self) -> Answer<()>;
    /// Changes what its containers may use together.
    async fn allow(&self, allowance: Allowance) -> Answer<()>;
    /// What the sandbox uses.
    async fn usage(&self) -> Answer<Usage>;
    /// What has happened from number `from` on. Waits for something, at most for `patience`; then the page is empty. Once the
    /// sandbox is gone: what is left, then [`KeeperError::Gone`].
    async fn events(&self, from: u64, patience: Duration) -> Answer<Page>;
    /// Ends the sandbox, whatever runs in it: SIGTERM, `grace`, SIGKILL. Once this answers it has gone.
    async fn shutdown(&self, grace: Duration) -> Answer<()>;
}
