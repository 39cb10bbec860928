//! The sandbox controller's calls on [`Node`].

use std::time::Duration;

use super::{CreateSandbox, SandboxMetrics, SandboxStatus, Started, UpdateSandbox};
use crate::id::{Namespace, SandboxId};
use crate::node::values::{Exit, Platform};
use crate::node::{Error, Node, Result};

impl Node {
    /// Makes a sandbox without running it. [`Error::SandboxExists`] for an id that is in use, invalid-argument
    /// errors for what can never be run. A failure leaves nothing.
    pub async fn create_sandbox(&self, namespace: &Namespace, create: CreateSandbox) -> Result<()> {
        unwritten((namespace, create))
    }

    /// Starts the keeper and boots the VM, and answers when it takes tasks. Of one that is ready: answers again. A failure
    /// leaves nothing, the id is free again and the error has the guest's last words.
    pub async fn start_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<Started> {
        unwritten((namespace, id))
    }

    /// Create and start in one: the form of 2022.
    pub async fn run_sandbox(&self, namespace: &Namespace, create: CreateSandbox) -> Result<Started> {
        unwritten((namespace, create))
    }

    /// What the sandbox can run.
    pub async fn platform(&self, namespace: &Namespace, id: &SandboxId) -> Result<Platform> {
        unwritten((namespace, id))
    }

    /// Ends the sandbox: its containers get SIGTERM, then the guest powers off, both within `timeout` (`None`: the node's
    /// default), then by force. Idempotent; what Status and Wait know stays. Answers when nothing of it runs.
    pub async fn stop_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        timeout: Option<Duration>,
    ) -> Result<()> {
        unwritten((namespace, id, timeout))
    }

    /// Answers when the sandbox has ended, at once if it already has. Any number of callers.
    pub async fn wait_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<Exit> {
        unwritten((namespace, id))
    }

    /// How the sandbox stands. `verbose` asks its keeper and guest too, which takes a bounded time.
    pub async fn sandbox_status(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        verbose: bool,
    ) -> Result<SandboxStatus> {
        unwritten((namespace, id, verbose))
    }

    /// All sandboxes of a namespace, by id, those that the node made for single containers included.
    pub async fn sandboxes(&self, namespace: &Namespace) -> Result<Vec<SandboxStatus>> {
        unwritten(namespace)
    }

    /// Stops the sandbox where that is still to be done (`timeout` as for [`Node::stop_sandbox`]), forgets it and its tasks
    /// (they are told as exited and deleted). Idempotent: OK for an id that nobody knows.
    pub async fn shutdown_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        timeout: Option<Duration>,
    ) -> Result<()> {
        unwritten((namespace, id, timeout))
    }

    /// Counters of its containers and of its VMM.
    pub async fn sandbox_metrics(&self, namespace: &Namespace, id: &SandboxId) -> Result<SandboxMetrics> {
        unwritten((namespace, id))
    }

    /// Changes what may be changed of a sandbox that has not ended.
    pub async fn update_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        update: UpdateSandbox,
    ) -> Result<()> {
        unwritten((namespace, id, update))
    }

    /// Freezes all its containers; none can be created until [`Node::resume_sandbox`]. Of a paused one: OK.
    pub async fn pause_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        unwritten((namespace, id))
    }

    /// Undoes [`Node::pause_sandbox`]. Of one that is ready: OK.
    pub async fn resume_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        unwritten((namespace, id))
    }

    /// OK if keeper and guest answer within a few seconds.
    pub async fn ping_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        unwritten((namespace, id))
    }

    /// The guest's kernel log; the console's while the guest does not answer.
    pub async fn kernel_log(&self, namespace: &Namespace, id: &SandboxId) -> Result<Vec<u8>> {
        unwritten((namespace, id))
    }
}

pub(in crate::node) fn unwritten<T>(_asked: impl Sized) -> Result<T> {
    Err(Error::Internal("this call is not written yet".to_owned()))
}
