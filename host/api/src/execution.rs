//! `containerd.v1.ExecutionService` of 2016 and early 2017: create and start are apart, and every process of a container can
//! be asked for by its pid in the guest. It is older than namespaces, so its clients need name none.
//!
//! Four of its calls failed in every server of that time: UpdateContainer, GetProcess, SignalProcess and ListProcesses. They
//! do here what their names say.

use theca_controller::id::ContainerId;
use theca_controller::node::task::{CreateTask, Exec, Whom};
use theca_controller::node::values::Source;
use theca_controller::node::{Error, Node, ProcessName};
use theca_proto::containerd::v1::execution_service_server::ExecutionService;
use theca_proto::containerd::v1::{
    CreateContainerRequest, CreateContainerResponse, DeleteContainerRequest, DeleteProcessRequest,
    GetContainerRequest, GetContainerResponse, GetProcessRequest, GetProcessResponse, ListContainersRequest,
    ListContainersResponse, ListProcessesRequest, ListProcessesResponse, PauseContainerRequest,
    ResumeContainerRequest, SignalProcessRequest, StartContainerRequest, StartProcessRequest,
    StartProcessResponse, UpdateContainerRequest,
};
use tonic::{Request, Status};

use crate::call::{Answer, answer, fits, id, open_or_default};
use crate::convert::processes;
use crate::status::node::in_words;

/// The service.
#[derive(Clone)]
pub struct Execution {
    node: Node,
}

impl Execution {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

#[tonic::async_trait]
impl ExecutionService for Execution {
    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let (namespace, request) = open_or_default(request)?;
        let create = CreateTask {
            container: id(&request.id)?,
            sandbox: None,
            source: Source::Bundle(processes::bundle(request.bundle_path).map_err(said)?),
            rootfs: Vec::new(),
            io: processes::io(request.console, request.stdin, request.stdout, request.stderr),
            delete_at_exit: false,
        };
        let task = self.node.create_task(&namespace, create).await.map_err(said)?;
        answer(CreateContainerResponse {
            container: Some(processes::execution_container(&task)),
            init_process: Some(processes::execution_process(task.init)),
        })
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        self.node.start_task(&namespace, &id(&request.id)?).await.map_err(said)?;
        answer(())
    }

    async fn update_container(&self, request: Request<UpdateContainerRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        let id = id(&request.container_id)?;
        let bundle = processes::bundle(request.bundle_path).map_err(said)?;
        self.node.update_task_from_bundle(&namespace, &id, &bundle).await.map_err(said)?;
        answer(())
    }

    async fn pause_container(&self, request: Request<PauseContainerRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        self.node.pause_task(&namespace, &id(&request.id)?).await.map_err(said)?;
        answer(())
    }

    async fn resume_container(&self, request: Request<ResumeContainerRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        self.node.resume_task(&namespace, &id(&request.id)?).await.map_err(said)?;
        answer(())
    }

    /// A pid is its init's, or 0: with another one this is DeleteProcess.
    async fn delete_container(&self, request: Request<DeleteContainerRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        let (id, process) = (id(&request.id)?, ProcessName::Pid(request.pid));
        self.node.delete_process(&namespace, &id, &process).await.map_err(said)?;
        answer(())
    }

    async fn get_container(&self, request: Request<GetContainerRequest>) -> Answer<GetContainerResponse> {
        let (namespace, request) = open_or_default(request)?;
        let task = self.node.task(&namespace, &id(&request.id)?).await.map_err(said)?;
        answer(GetContainerResponse { container: Some(processes::execution_container(&task)) })
    }

    /// `owner` never had a meaning.
    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let (namespace, _) = open_or_default(request)?;
        let tasks = self.node.tasks(&namespace).await.map_err(said)?;
        answer(ListContainersResponse { containers: fits(tasks.iter().map(processes::execution_container))? })
    }

    async fn start_process(&self, request: Request<StartProcessRequest>) -> Answer<StartProcessResponse> {
        let (namespace, request) = open_or_default(request)?;
        let id: ContainerId = id(&request.container_id)?;
        let process = request.process.ok_or_else(|| Error::Invalid("the request has no process".into()));
        let process = process.map_err(said)?;
        let terminal = request.console || process.terminal;
        let command = processes::execution_command(process);
        let spec = self.node.process_like_init(&namespace, &id, command, terminal).await.map_err(said)?;
        let io = processes::io(terminal, request.stdin, request.stdout, request.stderr);
        let exec = Exec { exec: None, spec, io, forget: false };
        let started = self.node.exec(&namespace, &id, exec).await.map_err(said)?;
        answer(StartProcessResponse { process: Some(processes::execution_process(started)) })
    }

    async fn get_process(&self, request: Request<GetProcessRequest>) -> Answer<GetProcessResponse> {
        let (namespace, request) = open_or_default(request)?;
        let (id, process) = (id(&request.container_id)?, ProcessName::Pid(request.pid));
        let process = self.node.process(&namespace, &id, &process).await.map_err(said)?;
        answer(GetProcessResponse { process: Some(processes::execution_process(process)) })
    }

    async fn signal_process(&self, request: Request<SignalProcessRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        let (id, whom) = (id(&request.container_id)?, Whom::Process(ProcessName::Pid(request.pid)));
        self.node.kill(&namespace, &id, &whom, request.signal).await.map_err(said)?;
        answer(())
    }

    async fn delete_process(&self, request: Request<DeleteProcessRequest>) -> Answer<()> {
        let (namespace, request) = open_or_default(request)?;
        let (id, process) = (id(&request.container_id)?, ProcessName::Pid(request.pid));
        self.node.delete_process(&namespace, &id, &process).await.map_err(said)?;
        answer(())
    }

    async fn list_processes(&self, request: Request<ListProcessesRequest>) -> Answer<ListProcessesResponse> {
        let (namespace, request) = open_or_default(request)?;
        let listed = self.node.processes(&namespace, &id(&request.container_id)?).await.map_err(said)?;
        answer(ListProcessesResponse {
            processes: fits(listed.into_iter().map(processes::execution_process))?,
        })
    }
}

/// An error in the words that clients of that time looked for.
fn said(error: Error) -> Status {
    let words = match &error {
        Error::UnknownContainer(id) => Some(format!("container does not exist {:?}", id.as_str())),
        Error::ContainerExists(id) => Some(format!("container {:?} already exists", id.as_str())),
        _ => None,
    };
    in_words(&error, words)
}

#[cfg(test)]
#[path = "execution_test.rs"]
mod tests;
