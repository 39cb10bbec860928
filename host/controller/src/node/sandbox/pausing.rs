//! Ready ⇄ Paused. The keeper knows whether its VM stands still; what the node says of it follows, whoever goes away meanwhile.

use std::sync::Arc;

use super::Standing;
use super::handle::Handle;
use super::mirror::News;
use crate::id::{Namespace, SandboxId};
use crate::node::events::What;
use crate::node::{Node, Result};

impl Node {
    /// Stops its VM where it is; what needs the guest is refused until [`Node::resume_sandbox`]. Of a paused one: OK. Goes on
    /// when whoever asked has gone.
    pub async fn pause_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        self.stand(namespace, id, Standing::Paused).await
    }

    /// Undoes [`Node::pause_sandbox`]. Of one that is ready: OK.
    pub async fn resume_sandbox(&self, namespace: &Namespace, id: &SandboxId) -> Result<()> {
        self.stand(namespace, id, Standing::Ready).await
    }

    async fn stand(&self, namespace: &Namespace, id: &SandboxId, to: Standing) -> Result<()> {
        let (node, handle) = (self.clone(), self.shared.sandbox(namespace, id)?);
        self.detached(async move {
            // One after the other: what is noted last is what was done last.
            let _turn = handle.standing.lock().await;
            let pause = to == Standing::Paused;
            let keeper = node.running(&handle, if pause { "pause" } else { "resume" })?;
            let done = if pause { keeper.freeze().await } else { keeper.thaw().await };
            let paused = match &done {
                Ok(()) => Some(pause),
                // One that could not answer in time may have done it.
                Err(_) => keeper.info().await.ok().map(|info| info.paused),
            };
            if let Some(paused) = paused {
                node.stands(&handle, paused);
            }
            Ok(done?)
        })
        .await
    }

    /// Its VM stands still, or it does not.
    pub(in crate::node) fn stands(&self, handle: &Arc<Handle>, paused: bool) {
        let (from, to, what) = match paused {
            true => (Standing::Ready, Standing::Paused, What::Paused),
            false => (Standing::Paused, Standing::Ready, What::Resumed),
        };
        self.change(handle, |mirror| {
            let changes = mirror.entry.standing == from;
            if changes {
                mirror.entry.standing = to;
            }
            News { told: changes.then_some((None, what)).into_iter().collect(), ..News::default() }
        });
    }
}
