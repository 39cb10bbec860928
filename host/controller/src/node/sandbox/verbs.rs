//! The sandbox controller's calls on [`Node`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::actor::{self, Actor};
use super::fresh::Fresh;
use super::handle::{Handle, Request};
use super::mirror::Mirror;
use super::{CreateSandbox, Resources, Standing, Started, kernel_args};
use crate::id::{Namespace, SandboxId};
use crate::node::journal::SandboxEntry;
use crate::node::keeper::Keeper;
use crate::node::values::{Exit, Platform};
use crate::node::{Error, Node, Result, recovery};

/// Most processors and RAM that a sandbox may ask for; the machine has its own say.
const MOST: (u32, u64) = (255, 16 << 20);

impl Node {
    /// Makes a sandbox without running it. [`Error::SandboxExists`] for an id that is in use, [`Error::Invalid`] for what can
    /// never be run. A failure leaves nothing. Goes on when whoever asked has gone.
    pub async fn create_sandbox(&self, namespace: &Namespace, create: CreateSandbox) -> Result<()> {
        let (node, namespace) = (self.clone(), namespace.clone());
        let entry = SandboxEntry::new(create, false);
        self.detached(async move { node.new_sandbox(&namespace, entry).await.map(drop) }).await
    }

    /// Starts the keeper and boots the VM, and answers when it takes tasks. Of one that is ready: answers again. A failure
    /// leaves nothing, the id is free again and the error has the guest's last words. When everybody who asked for it has gone
    /// before the answer, the sandbox is as it was created.
    pub async fn start_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<Started> {
        self.shared.sandbox(namespace, id)?.ask(Request::Start).await
    }

    /// Create and start in one: the form of 2022. Leaves nothing when it fails, or whoever asked has gone before the answer.
    pub async fn run_sandbox(&self, namespace: &Namespace, create: CreateSandbox) -> Result<Started> {
        let (node, namespace) = (self.clone(), namespace.clone());
        let entry = SandboxEntry::new(create, false);
        let fresh = self.detached(async move {
            let handle = node.new_sandbox(&namespace, entry).await?;
            Ok(Fresh::new(node, handle))
        });
        fresh.await?.start().await
    }

    /// What the sandbox can run.
    pub async fn platform(&self, namespace: &Namespace, id: &SandboxId) -> Result<Platform> {
        self.shared.sandbox(namespace, id)?;
        Ok(Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() })
    }

    /// Ends the sandbox: its containers get SIGTERM, then the guest powers off, both within `timeout` (`None`: the node's
    /// default), then by force. Idempotent; what Status and Wait know stays. Answers when nothing of it runs. Of several who
    /// ask, whoever has the least patience decides.
    pub async fn stop_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let handle = self.shared.sandbox(namespace, id)?;
        let grace = timeout.unwrap_or(self.shared.limits.stop);
        handle.interrupt(grace);
        handle.ask(|reply| Request::Stop(grace, reply)).await
    }

    /// Answers when the sandbox has ended, at once if it already has. Any number of callers.
    pub async fn wait_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<Exit> {
        let handle = self.shared.sandbox(namespace, id)?;
        tokio::select! {
            exit = handle.until(|mirror| mirror.entry.exit) => exit,
            () = self.shared.closing() => Err(Error::Closed),
        }
    }

    /// Stops the sandbox where that is still to be done (`timeout` as for [`Node::stop_sandbox`]), forgets it and its tasks
    /// (they are told as exited and deleted). Idempotent: OK for an id that nobody knows.
    pub async fn shutdown_sandbox(
        &self,
        namespace: &Namespace,
        id: &SandboxId,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let Ok(handle) = self.shared.sandbox(namespace, id) else { return Ok(()) };
        let grace = timeout.unwrap_or(self.shared.limits.stop);
        handle.interrupt(grace);
        match handle.ask(|reply| Request::Shutdown(grace, reply)).await {
            // Somebody else's Shutdown was quicker.
            Err(Error::UnknownSandbox(_)) => {}
            other => other?,
        }
        recovery::sweep(self, false);
        Ok(())
    }

    /// OK if keeper and guest answer, within less than half a minute.
    pub async fn ping_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        let handle = self.shared.sandbox(namespace, id)?;
        Ok(self.running(&handle, "ping")?.ping().await?)
    }

    /// The guest's kernel log; the console's while the guest does not answer.
    pub async fn kernel_log(&self, namespace: &Namespace, id: &SandboxId) -> Result<Vec<u8>> {
        let handle = self.shared.sandbox(namespace, id)?;
        Ok(self.running(&handle, "read the kernel log of")?.kernel_log().await?)
    }

    /// Takes the id and begins the actor. Not to be given up in the middle: the id would be taken for ever.
    pub(in crate::node) async fn new_sandbox(
        &self,
        namespace: &Namespace,
        mut entry: SandboxEntry,
    ) -> Result<Arc<Handle>> {
        check(&entry.create)?;
        entry.create.resources = entry.create.resources.resolved();
        let id = entry.create.id.clone();
        let (handle, actor) = self.sandbox_of(namespace, Mirror::new(entry));
        self.shared.add(handle.clone())?;
        // `theca run` has sandboxes too, of which nobody tells the node.
        let taken = match self.shared.keepers.connect(namespace, &id).await {
            Ok(None) => None,
            Ok(Some(_)) => Some(Error::SandboxExists(id)),
            Err(error) => Some(error.into()),
        };
        let kept = taken
            .map_or_else(|| self.shared.journal.sandboxes.put(namespace, handle.mirror().entry.clone()), Err);
        if let Err(error) = kept {
            self.shared.remove(&handle);
            return Err(error);
        }
        self.shared.spawn(actor.run());
        Ok(handle)
    }

    /// A handle and the actor that is to be run for it.
    pub(in crate::node) fn sandbox_of(&self, namespace: &Namespace, mirror: Mirror) -> (Arc<Handle>, Actor) {
        let (requests, inbox) = mpsc::channel(actor::QUEUE);
        let handle = Arc::new(Handle::new(namespace.clone(), mirror, requests));
        (handle.clone(), Actor::new(self.clone(), handle, inbox))
    }

    /// The keeper of a sandbox that has not ended.
    pub(in crate::node) fn running(&self, handle: &Handle, verb: &'static str) -> Result<Arc<dyn Keeper>> {
        let standing = handle.mirror().entry.standing;
        let state = match (standing, handle.keeper()) {
            (Standing::Ready | Standing::Paused, Some(keeper)) => return Ok(keeper),
            (Standing::Ready | Standing::Paused, None) => return Err(handle.unreachable()),
            (Standing::Created, _) => "was not started",
            _ => "has ended",
        };
        Err(Error::SandboxState { sandbox: handle.id.clone(), verb, state })
    }
}

fn check(create: &CreateSandbox) -> Result<()> {
    check_size(create.resources)?;
    kernel_args::check(&create.kernel_args)
}

/// Whether a machine could have such a VM.
pub(super) fn check_size(Resources { vcpus, memory_mib, .. }: Resources) -> Result<()> {
    if vcpus > MOST.0 || memory_mib > MOST.1 {
        let (most, most_mib) = MOST;
        return Err(Error::Invalid(format!(
            "a sandbox of {vcpus} processors and {memory_mib} MiB is too large: at most {most} and {most_mib}"
        )));
    }
    Ok(())
}
