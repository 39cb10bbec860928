//! Calls on [`Node`] for tasks and their processes: what all older interfaces become.

use std::path::Path;

use super::{CreateTask, Deleted, Exec, Process, Task, Whom};
use crate::id::{ContainerId, Namespace};
use crate::node::error::ProcessName;
use crate::node::keeper::Sample;
use crate::node::sandbox::verbs_unwritten as unwritten;
use crate::node::values::Exit;
use crate::node::{Node, Result};

impl Node {
    /// Makes a task, without running it, and its sandbox if it is to have one of its own. Answers it with its init's pid. A
    /// failure leaves nothing. [`Error::ContainerExists`](crate::node::Error::ContainerExists) for an id that is in use.
    pub async fn create_task(&self, namespace: &Namespace, create: CreateTask) -> Result<Task> {
        unwritten((namespace, create))
    }

    /// Lets a created task run and answers its init's pid.
    pub async fn start_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<u32> {
        unwritten((namespace, id))
    }

    /// Forgets a task that has ended or was never started, its sandbox too if that was its own; with `force` one that runs
    /// is killed first. Answers how it ended. Stats end here.
    pub async fn delete_task(&self, namespace: &Namespace, id: &ContainerId, force: bool) -> Result<Deleted> {
        unwritten((namespace, id, force))
    }

    /// How a task stands.
    pub async fn task(&self, namespace: &Namespace, id: &ContainerId) -> Result<Task> {
        unwritten((namespace, id))
    }

    /// All tasks of a namespace, by container id.
    pub async fn tasks(&self, namespace: &Namespace) -> Result<Vec<Task>> {
        unwritten(namespace)
    }

    /// Adds a process, to be started by [`Node::start_process`].
    pub async fn add_process(&self, namespace: &Namespace, id: &ContainerId, exec: Exec) -> Result<Process> {
        unwritten((namespace, id, exec))
    }

    /// Lets an added process run and answers its pid.
    pub async fn start_process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<u32> {
        unwritten((namespace, id, process))
    }

    /// Adds a process and starts it: what the older interfaces call Exec. One that does not start is forgotten.
    pub async fn exec(&self, namespace: &Namespace, id: &ContainerId, exec: Exec) -> Result<Process> {
        unwritten((namespace, id, exec))
    }

    /// Processes of a container, its init first, ended ones too until they are deleted.
    pub async fn processes(&self, namespace: &Namespace, id: &ContainerId) -> Result<Vec<Process>> {
        unwritten((namespace, id))
    }

    /// One process.
    pub async fn process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<Process> {
        unwritten((namespace, id, process))
    }

    /// Forgets a process that has ended, or was added and never started, and answers how it ended. Of init: as
    /// [`Node::delete_task`] without force.
    pub async fn delete_process(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<Deleted> {
        unwritten((namespace, id, process))
    }

    /// Sends a signal of signal(7). [`Error::AlreadyFinished`](crate::node::Error::AlreadyFinished) for what has ended.
    pub async fn kill(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        whom: &Whom,
        signal: u32,
    ) -> Result<()> {
        unwritten((namespace, id, whom, signal))
    }

    /// Answers when a process has ended and its output was delivered, at once if it already has. Any number of callers.
    pub async fn wait(&self, namespace: &Namespace, id: &ContainerId, process: &ProcessName) -> Result<Exit> {
        unwritten((namespace, id, process))
    }

    /// Freezes a container that runs.
    pub async fn pause_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        unwritten((namespace, id))
    }

    /// Thaws a paused container.
    pub async fn resume_task(&self, namespace: &Namespace, id: &ContainerId) -> Result<()> {
        unwritten((namespace, id))
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
        unwritten((namespace, id, process, width, height))
    }

    /// Ends a process's input once what was written has been read.
    pub async fn close_io(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        process: &ProcessName,
    ) -> Result<()> {
        unwritten((namespace, id, process))
    }

    /// Changes a container's limits: an OCI `LinuxResources` as JSON.
    pub async fn update_task(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        resources: Vec<u8>,
    ) -> Result<()> {
        unwritten((namespace, id, resources))
    }

    /// Changes a container's limits to those of another bundle's `config.json`.
    pub async fn update_task_from_bundle(
        &self,
        namespace: &Namespace,
        id: &ContainerId,
        bundle: &Path,
    ) -> Result<()> {
        unwritten((namespace, id, bundle))
    }

    /// A container's counters. Of one that has ended: the last that were read, until Delete.
    pub async fn stats(&self, namespace: &Namespace, id: &ContainerId) -> Result<Sample> {
        unwritten((namespace, id))
    }

    pub(in crate::node) fn refuse_while_task(&self, _namespace: &Namespace, _id: &ContainerId) -> Result<()> {
        Ok(())
    }
}
