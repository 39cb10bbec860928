//! `types.API`, containerd's first interface, of 2015: a container is created and started in one call, its init's exit
//! deletes it, and a process is named by its pid in the guest. It is older than namespaces, so its clients need name none.
//!
//! Its errors were plain text. The texts are kept, and have codes.

use std::pin::Pin;

use futures_util::Stream;
use theca_controller::id::{ContainerId, Namespace};
use theca_controller::node::task::{CreateTask, Exec, Whom};
use theca_controller::node::values::Source;
use theca_controller::node::{Error, Node, ProcessName};
use theca_proto::types::api_server::Api;
use theca_proto::types::{
    AddProcessRequest, AddProcessResponse, CreateCheckpointRequest, CreateCheckpointResponse,
    CreateContainerRequest, CreateContainerResponse, DeleteCheckpointRequest, DeleteCheckpointResponse,
    Event, EventsRequest, ListCheckpointRequest, ListCheckpointResponse, Machine, SignalRequest,
    SignalResponse, StateRequest, StateResponse, Stats, StatsRequest, UpdateContainerRequest,
    UpdateContainerResponse,
};
use tonic::{Request, Status};

use crate::call::{Answer, answer, fits, id, open_or_default};
use crate::convert::processes;
use crate::status::node::in_words;
use crate::streams2015;

const CHECKPOINTS: Error = Error::Unsupported("checkpointing a container");
/// A terminal's input and output travel through FIFOs, as any other's.
const CONSOLES: Error = Error::Unsupported("a console's path instead of FIFOs as stdin and stdout");

/// The service.
#[derive(Clone)]
pub struct Api2015 {
    node: Node,
}

impl Api2015 {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }

    /// Creates a container and starts it; what cannot be started is not there afterwards.
    async fn run(&self, namespace: Namespace, create: CreateTask) -> Result<u32, Error> {
        let id = create.container.clone();
        self.node.create_task(&namespace, create).await?;
        let failed = match self.node.start_task(&namespace, &id).await {
            Ok(pid) => return Ok(pid),
            Err(failed) => failed,
        };
        match self.node.delete_task(&namespace, &id, true).await {
            Ok(_) | Err(Error::UnknownContainer(_)) => {}
            Err(error) => {
                tracing::warn!(container = %id, %error, "a container that did not start stays for now");
                self.node.give_up_task(&namespace, &id);
            }
        }
        Err(failed)
    }
}

#[tonic::async_trait]
impl Api for Api2015 {
    type EventsStream = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;
    type GetStatsStream = Pin<Box<dyn Stream<Item = Result<Stats, Status>> + Send>>;

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let (namespace, request) = open_or_default(request)?;
        if !request.checkpoint.is_empty() {
            return Err(said(Error::Unsupported("restoring a container from a checkpoint")));
        }
        if !request.console.is_empty() {
            return Err(said(CONSOLES));
        }
        let container = named(&request.id)?;
        let bundle = processes::bundle(request.bundle_path).map_err(said)?;
        let terminal = self.node.bundle_terminal(&bundle).await.map_err(said)?;
        let create = CreateTask {
            container,
            sandbox: None,
            source: Source::Bundle(bundle),
            rootfs: Vec::new(),
            io: processes::io(terminal, request.stdin, request.stdout, request.stderr),
            delete_at_exit: true,
        };
        // A client that goes in the middle drops this call. What was begun is finished all the same.
        let this = self.clone();
        let run = tokio::spawn(async move { this.run(namespace, create).await });
        let pid = run.await.unwrap_or_else(|lost| Err(Error::Internal(lost.to_string()))).map_err(said)?;
        answer(CreateContainerResponse { pid })
    }

    async fn update_container(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Answer<UpdateContainerResponse> {
        let (namespace, request) = open_or_default(request)?;
        let id = named(&request.id)?;
        let updated = match request.status.as_str() {
            "running" => self.node.resume_task(&namespace, &id).await,
            "paused" => self.node.pause_task(&namespace, &id).await,
            other => Err(Error::Invalid(format!(
                "unknown container status {other:?}: ask for \"running\" or \"paused\""
            ))),
        };
        updated.map_err(said)?;
        answer(UpdateContainerResponse {})
    }

    async fn signal(&self, request: Request<SignalRequest>) -> Answer<SignalResponse> {
        let (namespace, request) = open_or_default(request)?;
        let whom = Whom::Process(ProcessName::Pid(request.pid));
        self.node.kill(&namespace, &named(&request.id)?, &whom, request.signal).await.map_err(said)?;
        answer(SignalResponse {})
    }

    async fn add_process(&self, request: Request<AddProcessRequest>) -> Answer<AddProcessResponse> {
        let (namespace, request) = open_or_default(request)?;
        if !request.console.is_empty() {
            return Err(said(CONSOLES));
        }
        let id = named(&request.id)?;
        let AddProcessRequest { terminal, user, args, env, cwd, stdin, stdout, stderr, .. } = request;
        let command = processes::api_command(args, env, cwd, user);
        let spec = self.node.process_like_init(&namespace, &id, command, terminal).await.map_err(said)?;
        let io = processes::io(terminal, stdin, stdout, stderr);
        let exec = Exec { exec: None, spec, io, forget: true };
        let process = self.node.exec(&namespace, &id, exec).await.map_err(said)?;
        answer(AddProcessResponse { pid: process.pid })
    }

    async fn create_checkpoint(
        &self,
        request: Request<CreateCheckpointRequest>,
    ) -> Answer<CreateCheckpointResponse> {
        open_or_default(request)?;
        Err(said(CHECKPOINTS))
    }

    async fn delete_checkpoint(
        &self,
        request: Request<DeleteCheckpointRequest>,
    ) -> Answer<DeleteCheckpointResponse> {
        open_or_default(request)?;
        Err(said(CHECKPOINTS))
    }

    async fn list_checkpoint(
        &self,
        request: Request<ListCheckpointRequest>,
    ) -> Answer<ListCheckpointResponse> {
        open_or_default(request)?;
        Err(said(CHECKPOINTS))
    }

    async fn state(&self, request: Request<StateRequest>) -> Answer<StateResponse> {
        let (namespace, _) = open_or_default(request)?;
        let listed = self.node.tasks_with_processes(&namespace).await.map_err(said)?.into_iter();
        let containers = fits(listed.map(|(task, processes)| processes::api_container(&task, processes)))?;
        let machine = self.node.machine();
        let machine = Machine { cpus: machine.cpus, memory: machine.memory_mib, ..Machine::default() };
        answer(StateResponse { containers, machine: Some(machine) })
    }

    async fn events(&self, request: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let (namespace, _) = open_or_default(request)?;
        // Subscribed before the client has the answer's headers: what it does next, it will be told of.
        answer(Box::pin(streams2015::events(self.node.subscribe(&namespace))))
    }

    async fn get_stats(&self, request: Request<StatsRequest>) -> Answer<Self::GetStatsStream> {
        let (namespace, request) = open_or_default(request)?;
        let id = named(&request.id)?;
        let first = self.node.stats(&namespace, &id).await.map_err(said)?;
        answer(Box::pin(streams2015::stats(self.node.clone(), namespace, id, first)))
    }
}

fn named(container: &str) -> Result<ContainerId, Status> {
    if container.is_empty() {
        return Err(said(Error::Invalid("container id cannot be empty".into())));
    }
    id(container)
}

/// An error in the words that clients of that time looked for.
pub fn said(error: Error) -> Status {
    let words = match &error {
        Error::UnknownContainer(id) => Some(format!("container not found: there is no {id}")),
        Error::UnknownProcess { container, process } => {
            Some(format!("process not found for container: there is no {process} in {container}"))
        }
        Error::AlreadyFinished => Some("process not found for container: it has finished".into()),
        _ => None,
    };
    in_words(&error, words)
}

#[cfg(test)]
#[path = "api2015_test.rs"]
mod tests;
