//! Why the node did not do what was asked. Variants name the operands, so that an adapter of an old interface can say it in
//! that interface's words; [`Error::kind`] is what becomes a status code.

use std::fmt;
use std::time::Duration;

use super::fields::FieldError;
use super::filter::FilterError;
use super::keeper::KeeperError;
use super::store::StoreError;
use crate::id::{ContainerId, ExecId, InvalidId, Namespace, SandboxId};

/// What the node answers.
pub type Result<T> = std::result::Result<T, Error>;

/// Kinds of error, as gRPC tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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
    /// A bound was reached.
    ResourceExhausted,
    /// It was not done in time.
    DeadlineExceeded,
    /// Whoever would have to answer is gone.
    Unavailable,
    /// Named, and not supported.
    Unimplemented,
    /// Anything else.
    Internal,
}

/// Which process of a container is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProcessName {
    /// Its init.
    Init,
    /// An added one, by its exec id.
    Exec(ExecId),
    /// Any, by its pid in the guest. 0 is init, as in the older generations.
    Pid(u32),
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("init"),
            Self::Exec(exec) => write!(f, "{exec}"),
            Self::Pid(pid) => write!(f, "{pid}"),
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A name that is none.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// A request that makes no sense, in words.
    #[error("{0}")]
    Invalid(String),
    /// A filter that cannot be read.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A field path that leads nowhere.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The store has no such record.
    #[error("{what} {id} is not in the store: create it first")]
    UnknownRecord {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The store has one already.
    #[error("{what} {id} is in the store already: update or delete it, or use another id")]
    RecordExists {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A namespace's records take all the room that they may.
    #[error(
        "the {what} records of namespace {namespace} may be no more than {limit} together: delete some first"
    )]
    StoreFull {
        /// `sandbox` or `container`.
        what: &'static str,
        /// Whose.
        namespace: Namespace,
        /// The bound, in words.
        limit: String,
    },
    /// No sandbox of that id.
    #[error("sandbox {0} does not exist")]
    UnknownSandbox(SandboxId),
    /// The sandbox's id is taken.
    #[error("sandbox {0} exists already: shut it down, or use another id")]
    SandboxExists(SandboxId),
    /// No task of that container.
    #[error("container {0} does not exist")]
    UnknownContainer(ContainerId),
    /// The container has a task already.
    #[error("container {0} exists already: delete it, or use another id")]
    ContainerExists(ContainerId),
    /// No such process in the container.
    #[error("process {process} does not exist in container {container}")]
    UnknownProcess {
        /// The container.
        container: ContainerId,
        /// How the process was named.
        process: ProcessName,
    },
    /// The exec id is taken.
    #[error("process {exec} exists already in container {container}: use another id")]
    ProcessExists {
        /// The container.
        container: ContainerId,
        /// The exec id.
        exec: ExecId,
    },
    /// A signal for what has ended. The text is containerd's own.
    #[error("process already finished")]
    AlreadyFinished,
    /// Not in the state of the sandbox.
    #[error("cannot {verb} sandbox {sandbox}, which {state}")]
    SandboxState {
        /// Which.
        sandbox: SandboxId,
        /// What was asked.
        verb: &'static str,
        /// How it stands, as a verb.
        state: &'static str,
    },
    /// A VM that runs has less than what was asked for.
    #[error(
        "cannot update sandbox {sandbox} to {wanted}: it runs with {vcpus} vCPU and {memory_mib} MiB and does not become \
         larger; ask for no more than that, or make another sandbox"
    )]
    Outgrown {
        /// Which.
        sandbox: SandboxId,
        /// What its VM has.
        vcpus: u32,
        /// What its VM has.
        memory_mib: u64,
        /// What was asked for, in words.
        wanted: String,
    },
    /// Not in the state of the process.
    #[error("cannot {verb} {process} of container {container}, which {state}")]
    ProcessState {
        /// Its container.
        container: ContainerId,
        /// The process.
        process: ProcessName,
        /// What was asked.
        verb: &'static str,
        /// How it stands, as a verb.
        state: &'static str,
    },
    /// The sandbox did not come up, or is over; with the guest's last words where there are any.
    #[error("sandbox {sandbox} failed: {reason}")]
    SandboxFailed {
        /// Which.
        sandbox: SandboxId,
        /// Why, in sentences.
        reason: String,
    },
    /// Something was not done in its time.
    #[error("{what} was not done within {} s", limit.as_secs())]
    TimedOut {
        /// What.
        what: String,
        /// The bound.
        limit: Duration,
    },
    /// A bound was reached.
    #[error("too many {0} at once: try again")]
    TooMany(&'static str),
    /// More bytes than are taken.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// Named, and not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The keeper refused, failed, or is gone.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// A record could not be kept or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node is closing.
    #[error("thecad is ending: try again in a moment")]
    Closed,
    /// A fault of the node itself.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::InvalidId(_) | Self::Invalid(_) | Self::Filter(_) | Self::Field(_) => Kind::InvalidArgument,
            Self::UnknownRecord { .. }
            | Self::UnknownSandbox(_)
            | Self::UnknownContainer(_)
            | Self::UnknownProcess { .. }
            | Self::AlreadyFinished => Kind::NotFound,
            Self::RecordExists { .. }
            | Self::SandboxExists(_)
            | Self::ContainerExists(_)
            | Self::ProcessExists { .. } => Kind::AlreadyExists,
            Self::SandboxState { .. } | Self::Outgrown { .. } | Self::ProcessState { .. } => {
                Kind::FailedPrecondition
            }
            Self::SandboxFailed { .. } | Self::Closed => Kind::Unavailable,
            Self::TimedOut { .. } => Kind::DeadlineExceeded,
            Self::TooMany(_) | Self::TooLarge { .. } | Self::StoreFull { .. } => Kind::ResourceExhausted,
            Self::Unsupported(_) => Kind::Unimplemented,
            Self::Keeper(error) => error.kind(),
            Self::Store(_) | Self::Internal(_) => Kind::Internal,
        }
    }
}
