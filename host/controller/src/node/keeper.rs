//! What the node asks of keepers, as traits: the real ones speak ttrpc (crate `api`), tests use fakes.
//!
//! A keeper owns its sandbox's VM and tasks and outlives the node's process; the node only drives it, and follows what
//! happens there by its numbered events. Every call is bounded in time by the implementation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use super::error::Kind;
use super::values::{Command, Exit, Io, Mount, Payload};
use crate::id::{ContainerId, ExecId, Namespace, SandboxId};

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

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Phase {
    /// It waits for its start.
    Created,
    /// It runs.
    Running,
    /// Its container is frozen.
    Paused,
    /// It has ended.
    Stopped,
}

/// A process as its keeper tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    /// `None`: the container's init.
    pub exec: Option<ExecId>,
    /// Its pid in the guest; 0 before it has started.
    pub pid: u32,
    /// Where it stands.
    pub phase: Phase,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// Its input and output.
    pub io: Io,
    /// What it was asked to run.
    pub command: Command,
}

/// A sandbox as its keeper tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The keeper's process.
    pub keeper_pid: u32,
    /// The VMM's process; 0 while there is none.
    pub vmm_pid: u32,
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// `uname -r` in the guest; empty when the guest did not answer.
    pub kernel_release: String,
    /// The agent's version; empty when the guest did not answer.
    pub agent_version: String,
    /// Guest memory in use, in bytes.
    pub guest_used_bytes: u64,
    /// How the VM ended, if it did and nobody asked it to; with the console's last lines.
    pub vm_failure: String,
    /// Points in the start, in microseconds since the keeper began.
    pub phases: BTreeMap<String, u64>,
}

/// Counters of a container at a moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When they were read.
    pub at: SystemTime,
    /// `io.containerd.cgroups.v2.Metrics`.
    pub metrics: Payload,
}

/// One sandbox's keeper. A missing `exec` means the container's init.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Makes a task, without running it.
    async fn create(&self, task: NewTask) -> Answer<()>;
    /// Lets a created task or an added process run.
    async fn start(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<()>;
    /// Adds a process, an OCI `Process` as JSON.
    async fn exec(&self, container: &ContainerId, exec: &ExecId, spec: Vec<u8>, io: Io) -> Answer<()>;
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
    /// OK when the guest's agent answers within a few seconds.
    async fn ping(&self) -> Answer<()>;
    /// Stops the whole VM where it is. Idempotent.
    async fn freeze(&self) -> Answer<()>;
    /// Lets it go on. Idempotent.
    async fn thaw(&self) -> Answer<()>;
    /// What the sandbox uses.
    async fn usage(&self) -> Answer<Usage>;
    /// What has happened from number `from` on. Waits for something, at most for `patience`; then the page is empty. Once the
    /// sandbox is gone: what is left, then [`KeeperError::Gone`].
    async fn events(&self, from: u64, patience: Duration) -> Answer<Page>;
    /// Ends the sandbox, whatever runs in it: SIGTERM, `grace`, SIGKILL. Once this answers it has gone.
    async fn shutdown(&self, grace: Duration) -> Answer<()>;
}

/// What a sandbox uses. What cannot be told is 0 or missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// cgroup v2 files of all containers together: name to content.
    pub files: BTreeMap<String, String>,
    /// Memory in use in the guest, in bytes.
    pub guest_used_bytes: u64,
    /// Resident memory of the agent, in bytes.
    pub agent_resident_bytes: u64,
    /// Resident memory of the keeper, in bytes.
    pub keeper_resident_bytes: u64,
    /// Resident memory of the VMM, in bytes.
    pub vmm_resident_bytes: u64,
    /// Processor time of the VMM, its guest's included, in microseconds.
    pub vmm_cpu_usec: u64,
}

/// Some of a keeper's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Happening>,
    /// Where to go on.
    pub next: u64,
    /// Events that were asked for and are not kept any more.
    pub lost: u64,
}

/// Something that happened in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// One more than the one before; from 1.
    pub number: u64,
    /// `None`: the sandbox.
    pub container: Option<ContainerId>,
    /// `None`: init, or the container as a whole.
    pub exec: Option<ExecId>,
    /// In the guest; 0 for what has not started.
    pub pid: u32,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The agent answers.
    VmReady,
    /// The VM is over, or did not come up. Exits of its tasks may follow.
    VmEnded {
        /// For people, with the guest's last words.
        reason: String,
        /// The guest powered off, or somebody asked for it.
        orderly: bool,
    },
    /// A container exists.
    Created {
        /// Its bundle.
        bundle: PathBuf,
    },
    /// Its init runs.
    Started,
    /// A process was added.
    ExecAdded,
    /// And runs.
    ExecStarted,
    /// A process has ended and its output is written.
    Exited(Exit),
    /// The guest's kernel killed something of the container for memory.
    OutOfMemory,
    /// The container is frozen.
    Paused,
    /// And goes on.
    Resumed,
    /// The container is forgotten.
    Deleted(Exit),
}
