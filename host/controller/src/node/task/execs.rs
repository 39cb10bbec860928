//! Calls on [`Node`] for processes that are added to a container.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::debug;

use super::lookup::Found;
use super::{Deleted, Exec, Process};
use crate::bundle::MAX_CONFIG;
use crate::id::{ContainerId, ExecId, Namespace};
use crate::node::Node;
use crate::node::error::{Error, ProcessName, Result};
use crate::node::sandbox::mirror::News;
use crate::task::state::Verb;

impl Node {
    /// Adds a process, to be started by [`Node::start_process`].
    pub async fn add_process(&self, namespace: &Namespace, id: &ContainerId, exec: Exec) -> Result<Process> {
        let found = self.find_or_look(namespace, id).await?;
        let forget = exec.forget;
        let exec = self.add(&found, exec).await?;
        let shown = self.shown(&found, Some(&exec));
        if forget {
            self.change(&found.handle, |mirror| mirror.forget_at_exit(id, &exec));
        }
        shown
    }

    /// Lets an added process run and answers its pid.
    pub async fn start_process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<u32> {
        let found = self.find_or_look(namespace, id).await?;
        let exec = self.accept(&found, process, Verb::Start).await?;
        let started = found.keeper("start a process in")?.start(id, exec.as_ref()).await;
        self.done(&found, exec.as_ref(), started).await?;
        Ok(self.shown(&found, exec.as_ref())?.pid)
    }

    /// Adds a process and starts it: what the older interfaces call Exec. One that does not start is forgotten.
    pub async fn exec(&self, namespace: &Namespace, id: &ContainerId, exec: Exec) -> Result<Process> {
        let (node, namespace, id) = (self.clone(), namespace.clone(), id.clone());
        self.detached(async move {
            let found = node.find_or_look(&namespace, &id).await?;
            let forget = exec.forget;
            let exec = node.add(&found, exec).await?;
            let keeper = found.keeper("start a process in")?;
            if let Err(error) = keeper.start(&id, Some(&exec)).await {
                if let Err(error) = keeper.delete(&id, Some(&exec)).await {
                    debug!(container = %id, %exec, %error, "a process that did not start stays");
                }
                node.refresh(&found).await;
                let never = super::record::lost_now();
                node.change(&found.handle, |mirror| mirror.forget_exec(&id, &exec, never));
                return Err(found.explain(None, error));
            }
            node.refresh(&found).await;
            let started = node.shown(&found, Some(&exec))?;
            node.describe(&found).await;
            // One that has ended meanwhile may be forgotten by its keeper.
            let shown = node.shown(&found, Some(&exec)).unwrap_or(started);
            if forget {
                node.change(&found.handle, |mirror| mirror.forget_at_exit(&id, &exec));
            }
            Ok(shown)
        })
        .await
    }

    /// Processes of a container, its init first, ended ones too until they are deleted.
    pub async fn processes(&self, namespace: &Namespace, id: &ContainerId) -> Result<Vec<Process>> {
        let found = self.look_up(namespace, id).await?;
        self.describe(&found).await;
        found.read(|record| record.processes())
    }

    /// One process.
    pub async fn process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<Process> {
        let found = self.look_up(namespace, id).await?;
        self.describe(&found).await;
        let unknown = || Error::UnknownProcess { container: id.clone(), process: process.clone() };
        let exec = found.read(|record| record.find(process))?.ok_or_else(unknown)?;
        self.shown(&found, exec.as_ref())
    }

    /// Forgets a process that has ended, or was added and never started, and answers how it ended. Of init: as
    /// [`Node::delete_task`] without force.
    pub async fn delete_process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<Deleted> {
        let found = self.find_or_look(namespace, id).await?;
        let Some(exec) = self.accept(&found, process, Verb::Delete).await? else {
            return self.delete_task(namespace, id, false).await;
        };
        let known = self.shown(&found, Some(&exec))?;
        let mut exit = known.exit;
        if let Some(keeper) = &found.keeper {
            match keeper.delete(id, Some(&exec)).await {
                Ok(told) => exit = exit.or(Some(told)),
                // Nobody has it any more: that was what was wanted.
                Err(error) if error.is_not_found() || error.is_gone() => {}
                Err(error) => return self.done(&found, Some(&exec), Err(error)).await,
            }
            self.refresh(&found).await;
        }
        let exit = exit.unwrap_or_else(super::record::lost_now);
        self.change(&found.handle, |mirror| {
            let here = mirror.tasks.get(id).and_then(|record| record.proc(Some(&exec)));
            match here.is_some_and(|here| here.pid == known.pid) {
                true => mirror.forget_exec(id, &exec, exit),
                // Its keeper has told, and somebody may have added another one of its name.
                false => News::default(),
            }
        });
        Ok(Deleted { pid: known.pid, exit })
    }

    async fn add(&self, found: &Found, exec: Exec) -> Result<ExecId> {
        let id = &found.id;
        if exec.spec.len() as u64 > MAX_CONFIG {
            return Err(Error::TooLarge { what: "the process specification", limit: MAX_CONFIG as usize });
        }
        self.accept(found, &ProcessName::Init, Verb::Exec).await?;
        let name = match exec.exec {
            Some(name) => name,
            None => made_up()?,
        };
        let taken = || found.read(|record| record.execs.contains_key(&name));
        if taken()? {
            // Somebody may have deleted it at the keeper's own task API.
            self.refresh(found).await;
        }
        if taken()? {
            return Err(Error::ProcessExists { container: id.clone(), exec: name });
        }
        let keeper = found.keeper("add a process in")?;
        let added = keeper.exec(id, &name, exec.spec, exec.io.clone(), exec.forget).await;
        self.done(found, None, added).await?;
        self.change(&found.handle, |mirror| mirror.has_io(id, &name, &exec.io));
        Ok(name)
    }

    fn shown(&self, found: &Found, exec: Option<&ExecId>) -> Result<Process> {
        let container = found.id.clone();
        let process = exec.map_or(ProcessName::Init, |exec| ProcessName::Exec(exec.clone()));
        found.read(|record| record.process(exec))?.ok_or(Error::UnknownProcess { container, process })
    }
}

/// An exec id for a process that was added through an interface that knows none. None is given twice, by whichever process
/// of the node.
fn made_up() -> Result<ExecId> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(format!("pid-{:x}-{count:x}", since.as_micros()).parse()?)
}
