//! `containerd.services.tasks.v1.Tasks`.

use std::sync::Arc;

use theca_proto::containerd::services::tasks::v1::tasks_server::Tasks;
use theca_proto::containerd::services::tasks::v1::*;
use tonic::{Request, Response, Status};

use super::convert;
use super::filter::Filter;
use crate::container::{ExecRequest, Sandbox, Target};
use crate::process::stdio::Names;

/// The service: it decodes, calls one verb of the sandbox, and encodes.
pub struct Service {
    sandbox: Arc<Sandbox>,
}

impl Service {
    /// Serves the containers of `sandbox`.
    pub fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Tasks for Service {
    async fn create(&self, request: Request<CreateTaskRequest>) -> Answer<CreateTaskResponse> {
        let request = request.into_inner();
        if request.checkpoint.is_some() {
            return Err(Status::unimplemented("a container cannot be made from a checkpoint"));
        }
        if !request.rootfs.is_empty() {
            return Err(Status::invalid_argument("the root file system is given to Prepare, not to Create"));
        }
        let CreateTaskRequest { container_id, stdin, stdout, stderr, terminal, .. } = request;
        let pid = self.sandbox.create(&container_id, Names { stdin, stdout, stderr, terminal }).await?;
        Ok(Response::new(CreateTaskResponse { container_id, pid }))
    }

    async fn start(&self, request: Request<StartTaskRequest>) -> Answer<()> {
        Ok(Response::new(self.sandbox.start(&request.into_inner().container_id).await?))
    }

    async fn delete(&self, request: Request<DeleteTaskRequest>) -> Answer<DeleteResponse> {
        let id = request.into_inner().container_id;
        let deleted = self.sandbox.delete(&id).await?;
        Ok(Response::new(convert::deleted(id, deleted)))
    }

    async fn delete_process(&self, request: Request<DeleteProcessRequest>) -> Answer<DeleteResponse> {
        let DeleteProcessRequest { container_id, pid } = request.into_inner();
        let deleted = self.sandbox.delete_process(&container_id, pid).await?;
        Ok(Response::new(convert::deleted(container_id, deleted)))
    }

    async fn get(&self, request: Request<GetTaskRequest>) -> Answer<GetTaskResponse> {
        let described = self.sandbox.get(&request.into_inner().container_id).await?;
        Ok(Response::new(GetTaskResponse { task: Some(convert::task(described)) }))
    }

    async fn list(&self, request: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let filter = Filter::parse(&request.into_inner().filter)?;
        let tasks = self.sandbox.list().await?.into_iter().filter(|task| filter.accepts(task));
        let tasks = tasks.map(convert::task).collect();
        Ok(Response::new(ListTasksResponse { tasks }))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        let KillRequest { container_id, signal, pid_or_all } = request.into_inner();
        let target = match pid_or_all {
            Some(kill_request::PidOrAll::All(true)) => Target::All,
            Some(kill_request::PidOrAll::Pid(pid)) => Target::Process(pid),
            Some(kill_request::PidOrAll::All(false)) | None => Target::Process(0),
        };
        Ok(Response::new(self.sandbox.kill(&container_id, signal, target).await?))
    }

    async fn exec(&self, request: Request<ExecProcessRequest>) -> Answer<ExecProcessResponse> {
        let ExecProcessRequest { container_id, stdin, stdout, stderr, terminal, spec } = request.into_inner();
        let spec = spec.ok_or_else(|| Status::invalid_argument("an exec needs a process"))?;
        let names = Names { stdin, stdout, stderr, terminal };
        let pid = self.sandbox.exec(&container_id, ExecRequest { process: &spec.value, names }).await?;
        Ok(Response::new(ExecProcessResponse { pid }))
    }

    async fn resize_pty(&self, request: Request<ResizePtyRequest>) -> Answer<()> {
        let ResizePtyRequest { container_id, pid, width, height } = request.into_inner();
        Ok(Response::new(self.sandbox.resize(&container_id, pid, width, height).await?))
    }

    async fn close_io(&self, request: Request<CloseIoRequest>) -> Answer<()> {
        let CloseIoRequest { container_id, pid, stdin } = request.into_inner();
        if stdin {
            self.sandbox.close_stdin(&container_id, pid).await?;
        }
        Ok(Response::new(()))
    }

    async fn pause(&self, request: Request<PauseTaskRequest>) -> Answer<()> {
        Ok(Response::new(self.sandbox.pause(&request.into_inner().container_id).await?))
    }

    async fn resume(&self, request: Request<ResumeTaskRequest>) -> Answer<()> {
        Ok(Response::new(self.sandbox.resume(&request.into_inner().container_id).await?))
    }

    async fn list_processes(&self, request: Request<ListProcessesRequest>) -> Answer<ListProcessesResponse> {
        let members = self.sandbox.processes(&request.into_inner().container_id).await?;
        let processes = members.into_iter().map(convert::process).collect();
        Ok(Response::new(ListProcessesResponse { processes }))
    }

    async fn checkpoint(&self, _: Request<CheckpointTaskRequest>) -> Answer<CheckpointTaskResponse> {
        Err(Status::unimplemented("a single container cannot be checkpointed; snapshot its sandbox instead"))
    }
}
