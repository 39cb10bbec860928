//! What the keeper asks of the agent in the guest, as a trait: the real one speaks gRPC (crate `api`), tests use a fake.
//!
//! Everything the agent says is a guest's word. Implementations bound sizes and times and turn what does not parse into
//! [`AgentError`]; nothing here panics on it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::id::ContainerId;
use crate::sandbox::allowance::Allowance;
use crate::vsock::Vsock;

/// Port of the agent's services in the guest.
pub const SERVICE_PORT: u32 = 1024;
/// The host's port that the agent dials when it is ready.
pub const READY_PORT: u32 = 1025;
/// Port of the agent's streams in the guest.
pub const STREAM_PORT: u32 = 1026;

/// How long one call of an [`Agent`] may take, but for [`Agent::wait`], [`Agent::wait_for_output`] and the graces that are added. Generous, for a guest may be
/// emulated on a machine with much else to do; a guest that hangs is noticed all the same. Whoever waits for a keeper that asks
/// its agent has to wait for longer.
pub const LONGEST_CALL: Duration = Duration::from_secs(60);

/// Why the agent did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AgentError {
    /// It answered with an error.
    #[error("{message}")]
    Refused {
        /// The kind of error.
        code: Code,
        /// The guest's words, bounded and printable.
        message: String,
        /// What it holds to blame, if that is not the guest itself.
        cause: Option<Cause>,
    },
    /// The connection to it is gone.
    #[error("the agent in the guest cannot be reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("the agent in the guest did not answer {call} within {} s", limit.as_secs())]
    TimedOut {
        /// What was asked.
        call: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// Its answer makes no sense.
    #[error("the agent in the guest answered nonsense: {0}")]
    Malformed(String),
}

/// Kinds of refusal, as gRPC tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No such thing.
    NotFound,
    /// It is there already.
    AlreadyExists,
    /// The request makes no sense.
    InvalidArgument,
    /// Not in this state.
    FailedPrecondition,
    /// Not allowed.
    PermissionDenied,
    /// A limit was reached.
    ResourceExhausted,
    /// Not supported.
    Unimplemented,
    /// Anything else.
    Internal,
}

/// What a container that did not start has itself to blame for, told apart from what the sandbox did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its program cannot be executed.
    Program {
        /// The system's error number for it.
        errno: u32,
    },
    /// The disk of its image cannot be mounted.
    DamagedImage,
}

/// A root file system to put together in the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rootfs {
    /// Read-only EROFS disks, topmost first.
    pub lowers: Vec<GuestDisk>,
    /// A writable ext4 disk; a tmpfs when absent.
    pub upper: Option<GuestDisk>,
    /// Bound of the tmpfs in bytes; 0 means half of the guest's memory.
    pub tmpfs_bytes: u64,
}

/// A specification as the guest gets it, with the files that it needs beside disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestSpec {
    /// An OCI `config.json`.
    pub json: Vec<u8>,
    /// What bind mounts in it show.
    pub files: Vec<SuppliedFile>,
}

/// A file of the host whose content goes to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppliedFile {
    /// As the bind mounts name it.
    pub source: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// A disk as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDisk {
    /// 0 is the first virtio-blk disk.
    pub slot: u8,
    /// What it must report as its serial number.
    pub serial: String,
    /// How large it must be, in bytes.
    pub bytes: u64,
}

/// Names of a process's streams; a missing one is `/dev/null`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamIds {
    /// Host to guest.
    pub stdin: Option<String>,
    /// Guest to host; both outputs of a terminal.
    pub stdout: Option<String>,
    /// Guest to host; none with a terminal.
    pub stderr: Option<String>,
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One process, by the guest's pid.
    Process(u32),
    /// Every process of the container.
    All,
}

/// The guest as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestInfo {
    /// The agent's own version.
    pub agent_version: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Memory in use, in bytes.
    pub used_bytes: u64,
    /// Resident memory of the agent, in bytes.
    pub agent_resident_bytes: u64,
    /// Its wall clock; `None` if it makes no sense.
    pub clock: Option<SystemTime>,
}

/// What the agent said when it was ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The agent's own version.
    pub agent_version: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Points in the guest's start, on its own monotonic clock.
    pub phases: Vec<(String, Duration)>,
}

/// cgroup v2 files of a container: name and content.
pub type CgroupFiles = Vec<(String, String)>;

/// The agent of one guest. Every call but [`Agent::wait`] is bounded in time.
#[async_trait]
pub trait Agent: Send + Sync + fmt::Debug {
    /// Stores a container's spec and mounts its root.
    async fn prepare(
        &self,
        container: &ContainerId,
        spec: GuestSpec,
        rootfs: Rootfs,
    ) -> Result<(), AgentError>;
    /// Makes a container's init process and answers its pid in the guest.
    async fn create(&self, container: &ContainerId, io: StreamIds, terminal: bool)
    -> Result<u32, AgentError>;
    /// Lets init run.
    async fn start(&self, container: &ContainerId) -> Result<(), AgentError>;
    /// Starts another process, an OCI `Process` as JSON, and answers its pid in the guest.
    async fn exec(
        &self,
        container: &ContainerId,
        io: StreamIds,
        terminal: bool,
        process: Vec<u8>,
    ) -> Result<u32, AgentError>;
    /// Answers the exit status once the process has ended.
    async fn wait(&self, container: &ContainerId, pid: u32) -> Result<u32, AgentError>;
    /// Answers once the process has ended and all that it wrote is on its way, which takes as long as nobody reads it. Others
    /// may hold its streams open all the same.
    async fn wait_for_output(&self, container: &ContainerId, pid: u32) -> Result<(), AgentError>;
    /// Sends a signal.
    async fn kill(&self, container: &ContainerId, target: Target, signal: u32) -> Result<(), AgentError>;
    /// Sets a terminal's size.
    async fn resize(
        &self,
        container: &ContainerId,
        pid: u32,
        width: u32,
        height: u32,
    ) -> Result<(), AgentError>;
    /// Freezes a container.
    async fn pause(&self, container: &ContainerId) -> Result<(), AgentError>;
    /// Thaws it.
    async fn resume(&self, container: &ContainerId) -> Result<(), AgentError>;
    /// Changes cgroup limits: an OCI `LinuxResources` as JSON.
    async fn update(&self, container: &ContainerId, resources: Vec<u8>) -> Result<(), AgentError>;
    /// Changes what all containers together may use.
    async fn allow(&self, allowance: &Allowance) -> Result<(), AgentError>;
    /// Reads the cgroup's counters.
    async fn stats(&self, container: &ContainerId) -> Result<CgroupFiles, AgentError>;
    /// Reads the counters of all containers together.
    async fn stats_of_all(&self) -> Result<CgroupFiles, AgentError>;
    /// Forgets an ended process; `None` is init, and with it the task.
    async fn delete(&self, container: &ContainerId, pid: Option<u32>) -> Result<(), AgentError>;
    /// Unmounts the root and forgets the container.
    async fn release(&self, container: &ContainerId) -> Result<(), AgentError>;
    /// What the guest is.
    async fn info(&self) -> Result<GuestInfo, AgentError>;
    /// Sets the guest's wall clock.
    async fn set_clock(&self, now: SystemTime) -> Result<(), AgentError>;
    /// Tells of containers that the guest's kernel has killed something in for memory, as long as the connection lasts.
    async fn watch_memory(&self, told: mpsc::Sender<ContainerId>) -> Result<(), AgentError>;
    /// The kernel's log, at most about a MiB of it.
    async fn kernel_log(&self) -> Result<Vec<u8>, AgentError>;
    /// Ends what runs, after `grace`, syncs the disks and powers off.
    async fn shutdown(&self, grace: Duration) -> Result<(), AgentError>;
}

/// How an agent is reached once its guest has booted.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Reads the ready message from `ready`, the connection that the agent opened, and connects to its services. Has no
    /// bound of its own: the boot, which this is the end of, has one.
    async fn connect(
        &self,
        ready: &mut UnixStream,
        guest: &Vsock,
    ) -> Result<(Arc<dyn Agent>, Greeting), AgentError>;
}
