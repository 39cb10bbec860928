//! From Created to Ready, or to nothing.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::timeout;
use tracing::{info, warn};

use super::actor::Actor;
use super::ending::FAILED;
use super::{Standing, Started};
use crate::node::error::{Error, Result};
use crate::node::events::What;
use crate::node::keeper::Launch;
use crate::node::sandbox::handle::Handle;
use crate::node::sandbox::mirror::News;
use crate::node::{Node, TASK_API};

impl Actor {
    /// Starts the keeper and waits for its guest. Of a sandbox that runs: tells of it again.
    pub async fn start(&mut self) -> Result<Started> {
        match self.standing() {
            Standing::Ready | Standing::Paused => return Ok(self.node.started(&self.handle)),
            Standing::Stopped => return Err(self.refusal("start", "has ended")),
            Standing::Created => {}
        }
        let handle = self.handle.clone();
        let _still = handle.changing.lock().await;
        match self.boot().await {
            Ok(()) => Ok(self.node.started(&self.handle)),
            Err(error) => {
                let (namespace, id) = (&self.handle.namespace, &self.handle.id);
                let words = self.node.shared.keepers.last_words(namespace, id).await;
                if let Err(error) = self.node.shared.keepers.clear(namespace, id).await {
                    warn!(sandbox = %id, %error, "something of a sandbox that did not start stays");
                }
                if self.standing() != Standing::Created {
                    // It was told that it is up.
                    self.handle.set_keeper(None);
                    self.ended(FAILED, error.to_string());
                }
                match error {
                    Error::TimedOut { .. } if !words.is_empty() => {
                        let reason = format!("{error}; the guest's last words:\n{words}");
                        Err(Error::SandboxFailed { sandbox: id.clone(), reason })
                    }
                    other => Err(other),
                }
            }
        }
    }

    async fn boot(&mut self) -> Result<()> {
        let shared = self.node.shared.clone();
        let launch = self.launch()?;
        let lazy = launch.one_task.is_some();
        let limit = shared.limits.start;
        let begun = async {
            let keeper = shared.keepers.spawn(launch).await?;
            let info = if lazy { keeper.info().await? } else { keeper.ready().await? };
            Ok::<_, Error>((keeper, info))
        };
        let (keeper, info) = tokio::select! {
            begun = timeout(limit, begun) => begun.map_err(|_| Error::TimedOut {
                what: format!("the start of sandbox {}", self.handle.id),
                limit,
            })??,
            () = self.handle.abort.notified() => return Err(self.refusal("start", "was told to end")),
            () = shared.closing() => return Err(Error::Closed),
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
