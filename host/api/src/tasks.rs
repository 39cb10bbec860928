//! `containerd.services.tasks.v1.Tasks` as it was in late June 2017: a task is named by its container, a process by its pid
//! in the guest. What a task is made of comes from the container store.

use theca_controller::node::filter::{Fields, Filters};
use theca_controller::node::task::{CreateTask, Exec, Phase, Task, Whom};
use theca_controller::node::values::Source;
use theca_controller::node::{Error, Node, ProcessName};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::tasks_server::Tasks;
use theca_proto::containerd::services::tasks::v1::{
    CheckpointTaskRequest, CheckpointTaskResponse, CloseIoRequest, CreateTaskRequest, CreateTaskResponse,
    DeleteProcessRequest, DeleteResponse, DeleteTaskRequest, ExecProcessRequest, ExecProcessResponse,
    GetTaskRequest, GetTaskResponse, KillRequest, ListProcessesRequest, ListProcessesResponse,
    ListTasksRequest, ListTasksResponse, PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest,
    StartTaskRequest,
};
use tonic::Request;

use crate::call::{Answer, List, answer, fits, id, open};
use crate::convert::{payload, processes, time};
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct TaskService {
    node: Node,
}

impl TaskService {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }

    /// On the wire, with its specification as far as that can still be read.
    async fn wire(&self, task: Task) -> theca_proto::containerd::v1::types::Task {
        let spec = self.node.task_spec(&task).await.ok();
        processes::task(task, spec)
    }
}

#[tonic::async_trait]
impl Tasks for TaskService {
    async fn create(&self, request: Request<CreateTaskRequest>) -> Answer<CreateTaskResponse> {
        let (namespace, request) = open(request)?;
        if request.checkpoint.is_some() {
            return Err(refusal(Error::Unsupported("restoring a container from a checkpoint")));
        }
        let create = CreateTask {
            container: id(&request.container_id)?,
            sandbox: None,
            source: Source::Store,
            rootfs: processes::rootfs(request.rootfs),
            io: processes::io(request.terminal, request.stdin, request.stdout, request.stderr),
            delete_at_exit: false,
        };
        let task = self.node.create_task(&namespace, create).await.map_err(refusal)?;
        answer(CreateTaskResponse { container_id: request.container_id, pid: task.init.pid })
    }

    async fn start(&self, request: Request<StartTaskRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        self.node.start_task(&namespace, &id(&request.container_id)?).await.map_err(refusal)?;
        answer(())
    }

    async fn delete(&self, request: Request<DeleteTaskRequest>) -> Answer<DeleteResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.container_id)?;
        let exit = self.node.delete_task(&namespace, &id, false).await.map_err(refusal)?.exit;
        answer(DeleteResponse {
            container_id: request.container_id,
            exit_status: exit.status,
            exited_at: Some(time::wire(exit.at)),
        })
    }

    async fn delete_process(&self, request: Request<DeleteProcessRequest>) -> Answer<DeleteResponse> {
        let (namespace, request) = open(request)?;
        let (id, process) = (id(&request.container_id)?, ProcessName::Pid(request.pid));
        let deleted = self.node.delete_process(&namespace, &id, &process).await.map_err(refusal)?;
        answer(DeleteResponse {
            container_id: request.container_id,
            exit_status: deleted.exit.status,
            exited_at: Some(time::wire(deleted.exit.at)),
        })
    }

    async fn get(&self, request: Request<GetTaskRequest>) -> Answer<GetTaskResponse> {
        let (namespace, request) = open(request)?;
        let task = self.node.task(&namespace, &id(&request.container_id)?).await.map_err(refusal)?;
        answer(GetTaskResponse { task: Some(self.wire(task).await) })
    }

    async fn list(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let (namespace, request) = open(request)?;
        let filter = Filters::parse(&[request.filter]).map_err(|error| refusal(error.into()))?;
        let mut tasks = List::new();
        for task in self.node.tasks(&namespace).await.map_err(refusal)? {
            if filter.match_any(&Filtered(&task)) {
                tasks.push(self.wire(task).await)?;
            }
        }
        answer(ListTasksResponse { tasks: tasks.done() })
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        let whom = match request.pid_or_all {
            Some(PidOrAll::All(true)) => Whom::All,
            Some(PidOrAll::Pid(pid)) => Whom::Process(ProcessName::Pid(pid)),
            Some(PidOrAll::All(false)) | None => Whom::Process(ProcessName::Init),
        };
        let id = id(&request.container_id)?;
        self.node.kill(&namespace, &id, &whom, request.signal).await.map_err(refusal)?;
        answer(())
    }

    async fn exec(&self, request: Request<ExecProcessRequest>) -> Answer<ExecProcessResponse> {
        let (namespace, request) = open(request)?;
        let exec = Exec {
            exec: None,
            spec: payload::oci_process(request.spec).map_err(refusal)?,
            io: processes::io(request.terminal, request.stdin, request.stdout, request.stderr),
            forget: false,
        };
        let id = id(&request.container_id)?;
        let process = self.node.exec(&namespace, &id, exec).await.map_err(refusal)?;
        answer(ExecProcessResponse { pid: process.pid })
    }

    async fn resize_pty(&self, request: Request<ResizePtyRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        let ResizePtyRequest { container_id, pid, width, height } = request;
        let (id, process) = (id(&container_id)?, ProcessName::Pid(pid));
        self.node.resize(&namespace, &id, &process, width, height).await.map_err(refusal)?;
        answer(())
    }

    async fn close_io(&self, request: Request<CloseIoRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        let (id, process) = (id(&request.container_id)?, ProcessName::Pid(request.pid));
        // Of the three only the input has an end for a client to close; but who asks is to be told of what is not there.
        if request.stdin {
            self.node.close_io(&namespace, &id, &process).await.map_err(refusal)?;
        } else {
            self.node.process(&namespace, &id, &process).await.map_err(refusal)?;
        }
        answer(())
    }

    async fn pause(&self, request: Request<PauseTaskRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        self.node.pause_task(&namespace, &id(&request.container_id)?).await.map_err(refusal)?;
        answer(())
    }

    async fn resume(&self, request: Request<ResumeTaskRequest>) -> Answer<()> {
        let (namespace, request) = open(request)?;
        self.node.resume_task(&namespace, &id(&request.container_id)?).await.map_err(refusal)?;
        answer(())
    }

    async fn list_processes(&self, request: Request<ListProcessesRequest>) -> Answer<ListProcessesResponse> {
        let (namespace, request) = open(request)?;
        let listed = self.node.processes(&namespace, &id(&request.container_id)?).await.map_err(refusal)?;
        answer(ListProcessesResponse { processes: fits(listed.into_iter().map(processes::process))? })
    }

    async fn checkpoint(&self, request: Request<CheckpointTaskRequest>) -> Answer<CheckpointTaskResponse> {
        open(request)?;
        Err(refusal(Error::Unsupported("checkpointing a container")))
    }
}

/// A task as a filter sees it.
struct Filtered<'a>(&'a Task);

impl Fields for Filtered<'_> {
    fn field(&self, path: &[String]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        match (first.as_str(), rest) {
            ("id" | "container_id", []) => Some(self.0.container.as_str()),
            ("sandbox", []) => Some(self.0.sandbox.as_str()),
            ("status", []) => Some(match self.0.init.phase {
                Phase::Created => "created",
                Phase::Running => "running",
                Phase::Paused => "paused",
                Phase::Stopped => "stopped",
            }),
            ("labels", key) => self.0.labels.get(&key.join(".")).map(String::as_str),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "tasks_test.rs"]
mod tests;
