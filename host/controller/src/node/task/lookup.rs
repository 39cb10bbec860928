//! From a container's id and a process's name to what they mean, and whether a verb may be asked for there.

use std::sync::Arc;

use super::record::Record;
use super::state;
use crate::id::{ContainerId, ExecId, Namespace};
use crate::node::Node;
use crate::node::error::{Error, ProcessName, Result};
use crate::node::keeper::{Keeper, KeeperError};
use crate::node::sandbox::Standing;
use crate::node::sandbox::handle::Handle;
use crate::task::state::Verb;

/// A task that was found.
pub struct Found {
    pub id: ContainerId,
    pub handle: Arc<Handle>,
    /// While the sandbox has not ended.
    pub keeper: Option<Arc<dyn Keeper>>,
}

impl Found {
    /// Reads its record.
    pub fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> Result<T> {
        let mirror = self.handle.mirror();
        mirror.tasks.get(&self.id).map(read).ok_or_else(|| Error::UnknownContainer(self.id.clone()))
    }

    /// Its keeper, for what only that can do.
    pub fn keeper(&self, verb: &'static str) -> Result<&Arc<dyn Keeper>> {
        let state = "has ended";
        let over = || Error::SandboxState { sandbox: self.handle.id.clone(), verb, state };
        self.keeper.as_ref().ok_or_else(over)
    }

    /// What a keeper's refusal means here.
    pub fn explain(&self, exec: Option<&ExecId>, error: KeeperError) -> Error {
        let known = self.handle.mirror().tasks.get(&self.id).map(|record| record.proc(exec).is_some());
        match (error.is_not_found(), known, exec) {
            (true, None, _) => Error::UnknownContainer(self.id.clone()),
            (true, Some(false), Some(exec)) => {
                Error::UnknownProcess { container: self.id.clone(), process: ProcessName::Exec(exec.clone()) }
            }
            (true, Some(true), _) if error.to_string() == Error::AlreadyFinished.to_string() => {
                Error::AlreadyFinished
            }
            _ => error.into(),
        }
    }
}

impl Node {
    /// The task of container `id`.
    pub(super) fn find(&self, namespace: &Namespace, id: &ContainerId) -> Result<Found> {
        let handle = self.shared.home(namespace, id)?;
        let runs = {
            let mirror = handle.mirror();
            if !mirror.tasks.contains_key(id) {
                // It is only about to be.
                return Err(Error::UnknownContainer(id.clone()));
            }
            matches!(mirror.entry.standing, Standing::Ready | Standing::Paused)
        };
        let keeper = handle.keeper().filter(|_| runs);
        if runs && keeper.is_none() {
            return Err(handle.unreachable());
        }
        Ok(Found { id: id.clone(), handle, keeper })
    }

    /// The task of container `id`, as its keeper has it by now.
    pub(super) async fn look_up(&self, namespace: &Namespace, id: &ContainerId) -> Result<Found> {
        let found = match self.find(namespace, id) {
            Err(Error::UnknownContainer(_)) => {
                // Somebody may have made it at a keeper's own task API a moment ago.
                self.catch_up_all(namespace).await;
                return self.find(namespace, id);
            }
            other => other?,
        };
        self.refresh(&found).await;
        self.find(namespace, id)
    }

    /// Takes what the keeper has told by now, if it still can.
    pub(super) async fn refresh(&self, found: &Found) {
        if let Some(keeper) = &found.keeper {
            // One that is gone is its actor's business; what is known is still true.
            let _ = self.catch_up(&found.handle, keeper).await;
        }
    }

    /// Whether `verb` may be asked of the process called `name`, and which that is.
    pub(super) async fn accept(
        &self,
        found: &Found,
        name: &ProcessName,
        verb: Verb,
    ) -> Result<Option<ExecId>> {
        let decide = || {
            found.read(|record| {
                let unknown = || Error::UnknownProcess { container: found.id.clone(), process: name.clone() };
                let exec = record.find(name).ok_or_else(unknown)?;
                state::accept(record, exec.as_ref(), verb)?;
                Ok(exec)
            })?
        };
        match decide() {
            Ok(exec) => Ok(exec),
            Err(_) => {
                // What is known may be a moment behind.
                self.refresh(found).await;
                decide()
            }
        }
    }

    /// Takes what a keeper's answer has caused, or tells why it refused.
    pub(super) async fn done<T>(
        &self,
        found: &Found,
        exec: Option<&ExecId>,
        answer: std::result::Result<T, KeeperError>,
    ) -> Result<T> {
        self.refresh(found).await;
        answer.map_err(|error| found.explain(exec, error))
    }
}
