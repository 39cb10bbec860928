//! `containerd.task.v2.Task` and `containerd.task.v3.Task`. The two differ in their package's name alone, so one service
//! answers under both.
//!
//! A call whose connection closes is dropped where it waits; the sandbox goes on with what it was asked.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use theca_controller::Error;
use theca_controller::sandbox::Sandbox;
use theca_controller::task::{TaskHandle, TaskRequest};
use theca_proto::containerd::task::{v2, v3};
use theca_proto::ttrpc_glue::Answer;
use ttrpc::r#async::Service;
use v3::task_ttrpc::{self, Task};

use crate::convert::{metrics, task, time};
use crate::status;

/// The services in front of one sandbox, by their names on the wire.
pub fn services(sandbox: &Sandbox) -> HashMap<String, Service> {
    let service = Arc::new(TaskService { sandbox: sandbox.clone() });
    let mut services = task_ttrpc::serve(service.clone()).into_services();
    let older = task_ttrpc::serve(service).into_services().into_values();
    services.extend(older.map(|service| (v2::task_ttrpc::SERVICE.to_owned(), service)));
    services
}

struct TaskService {
    sandbox: Sandbox,
}

impl TaskService {
    async fn task(&self, id: &str) -> Result<TaskHandle, Error> {
        self.sandbox.task(&id.parse()?).await
    }
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, request: v3::StateRequest) -> Answer<v3::StateResponse> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let report = self.sandbox.ask_task(&id, |reply| TaskRequest::State(which, reply)).await;
        Ok(task::state(request, report.map_err(status::of)?))
    }

    async fn create(&self, request: v3::CreateTaskRequest) -> Answer<v3::CreateTaskResponse> {
        let create = task::create(request).map_err(status::of)?;
        let pid = self.sandbox.create(create).await.map_err(status::of)?;
        Ok(v3::CreateTaskResponse { pid })
    }

    async fn start(&self, request: v3::StartRequest) -> Answer<v3::StartResponse> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let pid =
            self.sandbox.ask_task(&id, |reply| TaskRequest::Start(which, reply)).await.map_err(status::of)?;
        Ok(v3::StartResponse { pid })
    }

    async fn delete(&self, request: v3::DeleteRequest) -> Answer<v3::DeleteResponse> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let deleted = self.sandbox.ask_task(&id, |reply| TaskRequest::Delete(which, reply)).await;
        let (pid, exit) = deleted.map_err(status::of)?;
        Ok(v3::DeleteResponse { pid, exit_status: exit.status, exited_at: Some(time::wire(exit.at)) })
    }

    async fn pids(&self, request: v3::PidsRequest) -> Answer<v3::PidsResponse> {
        let task = self.task(&request.id).await.map_err(status::of)?;
        let pids = task.ask(TaskRequest::Pids).await.map_err(status::of)?;
        Ok(v3::PidsResponse { processes: task::processes(pids) })
    }

    async fn pause(&self, request: v3::PauseRequest) -> Answer<()> {
        let task = self.task(&request.id).await.map_err(status::of)?;
        task.ask(TaskRequest::Pause).await.map_err(status::of)
    }

    async fn resume(&self, request: v3::ResumeRequest) -> Answer<()> {
        let task = self.task(&request.id).await.map_err(status::of)?;
        task.ask(TaskRequest::Resume).await.map_err(status::of)
    }

    async fn checkpoint(&self, _: v3::CheckpointTaskRequest) -> Answer<()> {
        Err(status::of(Error::Unsupported("checkpointing a container")))
    }

    async fn kill(&self, request: v3::KillRequest) -> Answer<()> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let v3::KillRequest { signal, all, .. } = request;
        let kill = |reply| TaskRequest::Kill { which, signal, all, reply };
        self.sandbox.ask_task(&id, kill).await.map_err(status::of)
    }

    async fn exec(&self, request: v3::ExecProcessRequest) -> Answer<()> {
        let (id, add) = task::exec(request).map_err(status::of)?;
        self.sandbox.ask_task(&id, |reply| TaskRequest::Exec(Box::new(add), reply)).await.map_err(status::of)
    }

    async fn resize_pty(&self, request: v3::ResizePtyRequest) -> Answer<()> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let v3::ResizePtyRequest { width, height, .. } = request;
        let resize = |reply| TaskRequest::Resize { which, width, height, reply };
        self.sandbox.ask_task(&id, resize).await.map_err(status::of)
    }

    async fn close_io(&self, request: v3::CloseIoRequest) -> Answer<()> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        if !request.stdin {
            return Ok(());
        }
        self.sandbox.ask_task(&id, |reply| TaskRequest::CloseIo(which, reply)).await.map_err(status::of)
    }

    async fn update(&self, request: v3::UpdateTaskRequest) -> Answer<()> {
        let resources = task::resources(request.resources).map_err(status::of)?;
        let task = self.task(&request.id).await.map_err(status::of)?;
        task.ask(|reply| TaskRequest::Update(resources, reply)).await.map_err(status::of)
    }

    async fn wait(&self, request: v3::WaitRequest) -> Answer<v3::WaitResponse> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let task = self.sandbox.task(&id).await.map_err(status::of)?;
        let exit = task.wait(which).await.map_err(status::of)?;
        Ok(v3::WaitResponse { exit_status: exit.status, exited_at: Some(time::wire(exit.at)) })
    }

    async fn stats(&self, request: v3::StatsRequest) -> Answer<v3::StatsResponse> {
        let task = self.task(&request.id).await.map_err(status::of)?;
        let files = task.ask(TaskRequest::Stats).await.map_err(status::of)?;
        Ok(v3::StatsResponse { stats: Some(metrics::wire(&files)) })
    }

    /// Unlike the others, not an error for an unknown task: containerd asks so to find out whether there is one.
    async fn connect(&self, request: v3::ConnectRequest) -> Answer<v3::ConnectResponse> {
        let (id, which) = task::process(&request.id, "").map_err(status::of)?;
        let task_pid = match self.sandbox.ask_task(&id, |reply| TaskRequest::State(which, reply)).await {
            Ok(report) => report.pid,
            Err(Error::UnknownContainer) => 0,
            Err(error) => return Err(status::of(error)),
        };
        Ok(v3::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    async fn shutdown(&self, request: v3::ShutdownRequest) -> Answer<()> {
        self.sandbox.shutdown(request.now).await.map_err(status::of)
    }
}
