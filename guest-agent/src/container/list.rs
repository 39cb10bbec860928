//! Get, List and ListProcesses: tell what there is and change nothing.

use std::sync::Arc;

use prost::bytes::Bytes;

use super::{Container, Error, Result, Sandbox, Status, Task};
use crate::process::Process;

/// A task, for whoever asks.
pub struct Described {
    /// Of the container.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// The runtime spec, as it came.
    pub spec: Bytes,
    /// Init.
    pub init: Arc<Process>,
}

/// A process of a container.
pub enum Member {
    /// One that was asked for; it may have ended.
    Known(Arc<Process>),
    /// One that the container started itself.
    Own(u32),
}

impl Sandbox {
    /// One task.
    pub async fn get(&self, id: &str) -> Result<Described> {
        let container = self.find(id)?;
        let task = container.task().await?;
        Ok(describe(&container, &task))
    }

    /// All tasks, by container id.
    pub async fn list(&self) -> Result<Vec<Described>> {
        let mut tasks = Vec::new();
        for container in self.all() {
            if let Some(task) = &container.state.lock().await.task {
                tasks.push(describe(&container, task));
            }
        }
        Ok(tasks)
    }

    /// Every process in the container, and its execs that have ended and were not deleted.
    pub async fn processes(&self, id: &str) -> Result<Vec<(Member, Status)>> {
        let container = self.find(id)?;
        let task = container.task().await?;
        let status =
            |process: &Process| if process.exit().is_some() { Status::Stopped } else { task.status() };
        let known = [&task.init].into_iter().chain(task.execs.values());
        let mut members: Vec<_> =
            known.map(|process| (Member::Known(Arc::clone(process)), status(process))).collect();
        for pid in task.cgroup.processes()? {
            let pid = u32::try_from(pid.as_raw()).map_err(|_| Error::NoTask(id.to_owned()))?;
            if pid != task.init.pid.as_raw() as u32 && !task.execs.contains_key(&pid) {
                members.push((Member::Own(pid), task.status()));
            }
        }
        Ok(members)
    }
}

fn describe(container: &Container, task: &Task) -> Described {
    Described {
        id: container.id.clone(),
        status: task.status(),
        spec: container.spec_json.clone(),
        init: Arc::clone(&task.init),
    }
}
