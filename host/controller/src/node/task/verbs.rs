//! Calls on [`Node`] for tasks: what all older interfaces become.

use std::future::Future;
use std::path::Path;

use tokio::sync::oneshot;

use super::creating::read_config;
use super::lookup::Found;
use super::{Task, Whom};
use crate::id::{ContainerId, Namespace};
use crate::node::Node;
use crate::node::error::{Error, Kind, ProcessName, Result};
use crate::node::keeper::{Phase, Sample};
use crate::node::values::Exit;
use crate::task::state::Verb;

/// Highest of signal(7).
const LAST_SIGNAL: u32 = 64;

impl Node {
    /// Lets a created task run and answers its init's pid.
    pub async fn start_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<u32> {
        self.start_process(namespace, id, &ProcessName::Init).await
    }

    /// How a task stands.
    pub async fn task(&self, namespace: &Namespace, id: &ContainerId) -> Result<Task> {
        let found = self.look_up(namespace, id).await?;
        self.describe(&found).await;
        found.read(|record| record.task())?.ok_or_else(|| Error::UnknownContainer(id.clone()))
    }

    /// Sends a signal of signal(7). [`Error::AlreadyFinished`] for what has ended.
    pub async fn kill(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        whom: &Whom,
        signal: u32,
    ) -> Result<()> {
        let found = self.find_or_look(namespace, id).await?;
        if !(1..=LAST_SIGNAL).contains(&signal) {
            return Err(Error::Invalid(format!("{signal} is no signal: use 1 to {LAST_SIGNAL}")));
        }
        let (name, all) = match whom {
            Whom::Process(name) => (name, false),
            Whom::All => (&ProcessName::Init, true),
        };
        let exec = self.accept(&found, name, Verb::Kill).await?;
        let sent = found.keeper("signal a process in")?.kill(id, exec.as_ref(), signal, all).await;
        self.done(&found, exec.as_ref(), sent).await
    }

    /// Answers when a process has ended and its output was delivered, at once if it already has. Any number of callers.
    pub async fn wait(&self, namespace: &Namespace, id: &ContainerId, process: &ProcessName) -> Result<Exit> {
        let found = self.find_or_look(namespace, id).await?;
        let unknown = || Error::UnknownProcess { container: id.clone(), process: process.clone() };
        let exec = match found.read(|record| record.find(process))? {
            Some(exec) => exec,
            None => {
                self.refresh(&found).await;
                found.read(|record| record.find(process))?.ok_or_else(unknown)?
            }
        };
        let ended = found.handle.until(|mirror| match mirror.end_of(id, exec.as_ref()) {
            Some(exit) => Some(Ok(exit)),
            None if mirror.tasks.get(id).is_none_or(|record| record.proc(exec.as_ref()).is_none()) => {
                Some(Err(unknown()))
            }
            None => None,
        });
        tokio::select! {
            ended = ended => ended?,
            () = self.shared.closing() => Err(Error::Closed),
        }
    }

    /// Freezes a container that runs.
    pub async fn pause_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        let found = self.find_or_look(namespace, id).await?;
        self.accept(&found, &ProcessName::Init, Verb::Pause).await?;
        let paused = found.keeper("pause a container in")?.pause(id).await;
        self.done(&found, None, paused).await
    }

    /// Thaws a paused container.
    pub async fn resume_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        let found = self.find_or_look(namespace, id).await?;
        self.accept(&found, &ProcessName::Init, Verb::Resume).await?;
        let resumed = found.keeper("resume a container in")?.resume(id).await;
        self.done(&found, None, resumed).await
    }

    /// Sets a terminal's size in columns and rows; OK, and nothing, without a terminal.
    pub async fn resize(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
        width: u32,
        height: u32,
    ) -> Result<()> {
        let found = self.find_or_look(namespace, id).await?;
        let exec = self.accept(&found, process, Verb::Resize).await?;
        let resized = found.keeper("resize a terminal in")?.resize(id, exec.as_ref(), width, height).await;
        self.done(&found, exec.as_ref(), resized).await
    }

    /// Ends a process's input once what was written has been read. OK for what has ended.
    pub async fn close_io(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<()> {
        let found = self.find_or_look(namespace, id).await?;
        let exec = self.accept(&found, process, Verb::CloseIo).await?;
        let Some(keeper) = &found.keeper else { return Ok(()) };
        let closed = keeper.close_io(id, exec.as_ref()).await;
        self.done(&found, exec.as_ref(), closed).await
    }

    /// Changes a container's limits: an OCI `LinuxResources` as JSON.
    pub async fn update_task(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        resources: Vec<u8>,
    ) -> Result<()> {
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&resources);
        object.map_err(|error| Error::Invalid(format!("the resources are no JSON object: {error}")))?;
        let found = self.find_or_look(namespace, id).await?;
        self.accept(&found, &ProcessName::Init, Verb::Update).await?;
        let updated = found.keeper("update a container in")?.update(id, resources).await;
        self.done(&found, None, updated).await
    }

    /// Changes a container's limits to those of another bundle's `config.json`. One that sets none changes nothing.
    pub async fn update_task_from_bundle(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        bundle: &Path,
    ) -> Result<()> {
        self.find_or_look(namespace, id).await?;
        if !bundle.is_absolute() {
            return Err(Error::Invalid(format!(
                "the bundle {:?} is no absolute path",
                bundle.display().to_string()
            )));
        }
        let spec: serde_json::Value = serde_json::from_slice(&read_config(bundle).await?)
            .map_err(|error| Error::Invalid(format!("the bundle's config.json is no JSON: {error}")))?;
        self.update_task(namespace, id, limits_of(spec).to_string().into_bytes()).await
    }

    /// A container's counters. Of one that has ended: the last that were read, by whomever or by the node itself, until
    /// Delete.
    pub async fn stats(&self, namespace: &Namespace, id: &ContainerId) -> Result<Sample> {
        let found = self.find_or_look(namespace, id).await?;
        let answer = match found.keeper("measure a container in") {
            Ok(keeper) => keeper.stats(id).await.map_err(Error::from),
            Err(over) => Err(over),
        };
        let error = match answer {
            Ok(sample) => {
                found.handle.mirror().keep_sample(id, sample.clone());
                return Ok(sample);
            }
            Err(error) => error,
        };
        let (ended, kept) =
            found.read(|record| (record.init.phase == Phase::Stopped, record.sample.clone()))?;
        match (kept, error) {
            // A VM that stands still has counters: they are not to be had now.
            (Some(sample), error) if ended || error.kind() != Kind::FailedPrecondition => Ok(sample),
            (_, Error::Keeper(error)) => self.done(&found, None, Err(error)).await,
            (_, error) => Err(error),
        }
    }

    /// Takes over how the keeper describes the processes, where it can be asked.
    pub(super) async fn describe(&self, found: &Found) {
        if let Some(keeper) = &found.keeper {
            self.describe_in(&found.handle, keeper, &found.id).await;
        }
    }

    /// The task of container `id`, looking at keepers only for one that is not known.
    pub(super) async fn find_or_look(&self, namespace: &Namespace, id: &ContainerId) -> Result<Found> {
        match self.find(namespace, id) {
            Err(Error::UnknownContainer(_)) => self.look_up(namespace, id).await,
            other => other,
        }
    }

    /// A container's record stays while it has a task.
    pub(in crate::node) fn refuse_while_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        if !self.shared.is_container(namespace, id) {
            return Ok(());
        }
        Err(Error::ProcessState {
            container: id.clone(),
            process: ProcessName::Init,
            verb: "delete the record beside",
            state: "exists: delete the task first",
        })
    }

    /// Does something to its end, even if whoever asked for it goes away.
    pub(in crate::node) async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.spawn(async move {
            let _ = reply.send(work.await);
        });
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// The limits that a `config.json` sets. Devices are no limit: a container keeps those that it was created with.
fn limits_of(mut spec: serde_json::Value) -> serde_json::Value {
    let resources = spec.pointer_mut("/linux/resources").map(serde_json::Value::take);
    let mut limits = resources.unwrap_or_else(|| serde_json::json!({}));
    if let Some(limits) = limits.as_object_mut() {
        limits.remove("devices");
    }
    limits
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::limits_of;

    #[test]
    fn limits_of_an_ordinary_bundle_are_those_that_can_be_changed() {
        let resources = json!({ "devices": [{ "allow": false, "access": "rwm" }], "pids": { "limit": 33 } });
        assert_eq!(
            limits_of(json!({ "linux": { "resources": resources } })),
            json!({ "pids": { "limit": 33 } })
        );
        assert_eq!(limits_of(json!({ "process": {} })), json!({}));
    }
}
