//! The one error that leaves this crate. Modules have their own; this says which of them, and the `api` crate's table
//! says what status each becomes.

use std::sync::Arc;

use crate::agent::AgentError;
use crate::bundle::BundleError;
use crate::id::{ContainerId, ExecId, InvalidId};
use crate::sandbox::boot::BootError;
use crate::sandbox::slots::NoSlot;
use crate::sandbox::state::SandboxRefusal;
use crate::task::room::NoRoom;
use crate::task::rootfs::RootfsError;
use crate::task::state::TaskRefusal;
use crate::task::stdio::StdioError;
use crate::vmm::{VmEnd, VmmError};

/// What a request to a sandbox answers.
pub type Result<T> = std::result::Result<T, Error>;

/// `error` and what caused it, in one line.
pub fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that is none.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// A request that makes no sense, in words.
    #[error("{0}")]
    Invalid(String),
    /// No task of that id. The text is containerd's own for a shim that has none.
    #[error("container not created")]
    UnknownContainer,
    /// No such process in the container.
    #[error("process {0} does not exist in the container")]
    UnknownExec(ExecId),
    /// The id is taken.
    #[error("container {0} exists already in this sandbox")]
    ContainerExists(ContainerId),
    /// Somebody did not want it any more.
    #[error("container {0} was deleted before it was made")]
    Deleted(ContainerId),
    /// The id is taken.
    #[error("process {0} exists already in the container")]
    ExecExists(ExecId),
    /// Not in the sandbox's state.
    #[error(transparent)]
    Sandbox(#[from] SandboxRefusal),
    /// Not in the task's state.
    #[error(transparent)]
    Task(#[from] TaskRefusal),
    /// The container has too many processes.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The bundle cannot be run.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The root file system cannot be used.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// Too many disks.
    #[error(transparent)]
    Slots(#[from] NoSlot),
    /// A process's input or output cannot be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The VM did not come up. Shared: every task that waited for it gets the same story.
    #[error("the sandbox's VM did not start")]
    Boot(#[source] Arc<BootError>),
    /// The VM is over.
    #[error("the sandbox's VM has ended")]
    VmEnded(#[source] Arc<VmEnd>),
    /// The VMM refused.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The agent refused or could not be asked.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Too many requests at once.
    #[error("the keeper has too many unanswered requests for this task")]
    Busy,
    /// The sandbox is gone, or went while the request waited.
    #[error("the sandbox is gone")]
    Gone,
    /// Named, and not supported.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}
