//! Why a verb failed.

use std::io;

use super::Status;
use crate::cgroup::CgroupError;
use crate::oci::SpecError;
use crate::process::launch::LaunchError;
use crate::rootfs::RootfsError;

/// The error of every verb. [`crate::server::status`] gives each its code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was prepared under that id.
    #[error("container {0} does not exist; Prepare makes one")]
    NoContainer(String),
    /// The id is taken.
    #[error("container {0} already exists")]
    ContainerExists(String),
    /// It was prepared but has no task.
    #[error("container {0} has no task; Create makes one")]
    NoTask(String),
    /// It has a task already.
    #[error("container {0} already has a task")]
    TaskExists(String),
    /// No process of the container has that pid.
    #[error("container {container} has no process {pid}")]
    NoProcess {
        /// Its id.
        container: String,
        /// As asked.
        pid: u32,
    },
    /// The process has ended, so it takes no signal.
    #[error("process {pid} of container {container} has already finished")]
    Finished {
        /// Its id.
        container: String,
        /// Of the process.
        pid: u32,
    },
    /// The process has not ended, so it cannot be deleted.
    #[error("process {pid} of container {container} still runs; kill it first")]
    StillRuns {
        /// Its id.
        container: String,
        /// Of the process.
        pid: u32,
    },
    /// Not in this state.
    #[error("cannot {verb} container {container}: it is {}", status.name())]
    State {
        /// Its id.
        container: String,
        /// What was asked.
        verb: &'static str,
        /// Where it stands.
        status: Status,
    },
    /// No plain file name, or too long.
    #[error("{0:?} is not a container id: 1 to 76 letters, digits, dots, dashes and underscores are")]
    InvalidId(String),
    /// No such signal.
    #[error("{0} is not a signal")]
    InvalidSignal(u32),
    /// The shutdown has begun.
    #[error("the guest is shutting down")]
    ShuttingDown,
    /// The spec asks for what cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The root file system could not be put together.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The cgroup did not do as asked.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A process could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The system refused.
    #[error("failed to {action}")]
    Io {
        /// With its operands.
        action: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Names what was tried.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
