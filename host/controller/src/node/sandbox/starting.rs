//! From Created to Ready, or to nothing; back to Created if nobody waits for it any longer.

use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::timeout;
use tracing::info;

use super::actor::Actor;
use super::ending::FAILED;
use super::{Standing, Started};
use crate::node::error::{Error, Result};
use crate::node::events::What;
use crate::node::keeper::Launch;
use crate::node::sandbox::handle::{Handle, Reply, Request};
use crate::node::sandbox::mirror::News;
use crate::node::{Node, TASK_API};

/// Why a boot came to nothing.
enum Cut {
    /// It failed, or was told to end.
    Failed(Error),
    /// Whoever waited for it has gone.
    Unwanted,
}

impl<E: Into<Error>> From<E> for Cut {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Those who wait for a start: who asked for it, and who has asked since.
struct Waiting(Vec<Reply<Started>>);

impl Waiting {
    /// Answers when all of them have gone.
    async fn gone(&mut self) {
        poll_fn(|context| {
            self.0.retain_mut(|reply| reply.poll_closed(context).is_pending());
            if self.0.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Tells all of them.
    fn answer(self, started: &Result<Started>) {
        for reply in self.0 {
            // Whoever asked may be gone.
            let _ = reply.send(started.clone());
        }
    }
}

impl Actor {
    /// Starts the keeper and waits for its guest. Of a sandbox that runs: tells of it again. Whether the sandbox is forgotten,
    /// which it is when its start has failed; when nobody waits for that any longer, it is as it was before.
    pub async fn start(&mut self, reply: Reply<Started>) -> bool {
        let mut waiting = Waiting(vec![reply]);
        let started = match self.standing() {
            Standing::Ready | Standing::Paused => Ok(self.node.started(&self.handle)),
            Standing::Stopped => Err(self.refusal("start", "has ended")),
            Standing::Created => {
                let handle = self.handle.clone();
                let _still = handle.changing.lock().await;
                match self.boot(&mut waiting).await {
                    Ok(()) => Ok(self.node.started(&self.handle)),
                    Err(Cut::Unwanted) => {
                        info!(sandbox = %self.handle.id, "a start that nobody waits for is undone");
                        self.clear().await;
                        return false;
                    }
                    Err(Cut::Failed(error)) => {
                        let error = self.not_started(error).await;
                        self.forget();
                        waiting.answer(&Err(error));
                        return true;
                    }
                }
            }
        };
        waiting.answer(&started);
        false
    }

    /// Removes what a start that failed has left, and answers why it did.
    async fn not_started(&mut self, error: Error) -> Error {
        let handle = self.handle.clone();
        let words = self.node.shared.keepers.last_words(&handle.namespace, &handle.id).await;
        self.clear().await;
        if self.standing() != Standing::Created {
            // It was told that it is up.
            self.ended(FAILED, error.to_string());
        }
        match error {
            Error::TimedOut { .. } if !words.is_empty() => {
                let reason = format!("{error}; the guest's last words:\n{words}");
                Error::SandboxFailed { sandbox: handle.id.clone(), reason }
            }
            other => other,
        }
    }

    async fn boot(&mut self, waiting: &mut Waiting) -> std::result::Result<(), Cut> {
        let shared = self.node.shared.clone();
        let launch = self.launch()?;
        let lazy = launch.one_task.is_some();
        let limit = shared.limits.start;
        let begun = timeout(limit, async {
            let keeper = shared.keepers.spawn(launch).await?;
            let info = if lazy { keeper.info().await? } else { keeper.ready().await? };
            Ok::<_, Error>((keeper, info))
        });
        let (mut begun, mut closing) = (pin!(begun), pin!(shared.closing()));
        let (keeper, info) = loop {
            tokio::select! {
                biased;
                () = waiting.gone() => return Err(Cut::Unwanted),
                () = &mut closing => return Err(Error::Closed.into()),
                Some(request) = self.inbox.recv() => match request {
                    Request::Start(reply) => waiting.0.push(reply),
                    end @ (Request::Stop(..) | Request::Shutdown(..)) => {
                        self.later = Some(end);
                        return Err(self.refusal("start", "was told to end").into());
                    }
                },
                begun = &mut begun => break begun.map_err(|_| Error::TimedOut {
                    what: format!("the start of sandbox {}", self.handle.id),
                    limit,
                })??,
            }
        };
        self.handle.set_keeper(Some(keeper.clone()));
        self.node.rises(&self.handle, info.vmm_pid);
        // A process that begins anew would take it for one that was not started.
        self.node.is_written(&self.handle)?;
        self.follow(keeper);
        info!(sandbox = %self.handle.id, pid = info.vmm_pid, "sandbox started");
        Ok(())
    }

    fn launch(&self) -> Result<Launch> {
        let namespace = &self.handle.namespace;
        let mirror = self.handle.mirror();
        let expected = mirror.expected.values().next().filter(|_| mirror.entry.own_of_container);
        let bundle: PathBuf =
            self.node.shared.journal.sandbox_bundle(namespace).map_err(|error| {
                Error::Internal(format!("failed to make a folder for the sandbox: {error}"))
            })?;
        let create = &mirror.entry.create;
        Ok(Launch {
            namespace: namespace.clone(),
            sandbox: create.id.clone(),
            bundle,
            vcpus: create.resources.vcpus,
            memory_mib: create.resources.memory_mib,
            allowance: create.resources.allowance,
            kernel_args: create.kernel_args.clone(),
            one_task: expected.map(|expected| expected.rootfs.clone()),
        })
    }

    /// Why `verb` cannot be done.
    pub fn refusal(&self, verb: &'static str, state: &'static str) -> Error {
        self.handle.refusal(verb, state)
    }
}

impl Node {
    /// A sandbox takes tasks from now on.
    pub(in crate::node) fn rises(&self, handle: &Arc<Handle>, pid: u32) {
        self.change(handle, |mirror| {
            mirror.entry.standing = Standing::Ready;
            mirror.entry.pid = pid;
            News { told: vec![(None, What::SandboxStarted { pid })], ..News::default() }
        });
    }

    /// What Start answers of a sandbox that runs.
    pub(super) fn started(&self, handle: &Handle) -> Started {
        let address = self.shared.keepers.address(&handle.namespace, &handle.id);
        let entry = &handle.mirror().entry;
        Started {
            pid: entry.pid,
            created_at: entry.created_at,
            labels: entry.create.labels.clone(),
            address,
            version: TASK_API,
        }
    }
}
