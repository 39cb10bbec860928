//! `containerd.v1.services.shim.Shim`: one service per container, on the agent's one port. The header [`CONTAINER`] says whose.
//!
//! It is the same container as the one that `Tasks` shows, prepared like it by `Agent.Prepare`, and `Exit` is `Agent.Release`.
//! The bundle is on the host, so there is none to tell of here.

use std::pin::Pin;
use std::sync::Arc;

use theca_proto::SHIM_CONTAINER as CONTAINER;
use theca_proto::containerd::v1::services::shim::shim_server::Shim;
use theca_proto::containerd::v1::services::shim::{self, *};
use theca_proto::containerd::v1::types;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Stop, convert};
use crate::container::{Error, ExecRequest, Sandbox, Target};
use crate::process::stdio::Names;

/// The service: it decodes, calls one verb of the sandbox, and encodes.
pub struct Service {
    sandbox: Arc<Sandbox>,
    stop: Stop,
}

impl Service {
    /// Serves the containers of `sandbox`; streams of events end with `stop`.
    pub fn new(sandbox: Arc<Sandbox>, stop: Stop) -> Self {
        Self { sandbox, stop }
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// The container that a call is for, and what it asks.
fn addressed<T>(request: Request<T>) -> Result<(String, T), Status> {
    let missing = || Status::invalid_argument(format!("name the container in the header {CONTAINER}"));
    let id = request.metadata().get(CONTAINER).and_then(|id| id.to_str().ok()).ok_or_else(missing)?;
    Ok((id.to_owned(), request.into_inner()))
}

/// Where today's word for it is another than the Shim's.
fn refusal(error: Error) -> Status {
    match error {
        Error::NoTask(_) => Status::failed_precondition("container hasn't been created yet"),
        Error::NoProcess { pid, .. } => {
            Status::not_found(format!("process {pid} does not exist in container"))
        }
        other => other.into(),
    }
}

#[tonic::async_trait]
impl Shim for Service {
    async fn create(&self, request: Request<CreateRequest>) -> Answer<CreateResponse> {
        let named = request.metadata().get(CONTAINER).and_then(|id| id.to_str().ok()).map(str::to_owned);
        let CreateRequest {
            id, terminal, stdin, stdout, stderr, rootfs, checkpoint, parent_checkpoint, ..
        } = request.into_inner();
        if !checkpoint.is_empty() || !parent_checkpoint.is_empty() {
            return Err(Status::unimplemented("a container cannot be made from a checkpoint"));
        }
        if !rootfs.is_empty() {
            return Err(Status::invalid_argument("the root file system is given to Prepare, not to Create"));
        }
        if named.is_some_and(|named| named != id) {
            let words = format!("the header {CONTAINER} names another container than {id:?}");
            return Err(Status::invalid_argument(words));
        }
        let pid = self.sandbox.create(&id, Names { stdin, stdout, stderr, terminal }).await?;
        Ok(Response::new(CreateResponse { pid }))
    }

    async fn start(&self, request: Request<StartRequest>) -> Answer<()> {
        let (id, _) = addressed(request)?;
        Ok(Response::new(self.sandbox.start(&id).await.map_err(refusal)?))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let (id, DeleteRequest { pid }) = addressed(request)?;
        let exit = self.sandbox.end_and_delete(&id, pid).await.map_err(refusal)?.exit;
        Ok(Response::new(DeleteResponse { exit_status: exit.status, exited_at: convert::timestamp(exit.at) }))
    }

    async fn state(&self, request: Request<StateRequest>) -> Answer<StateResponse> {
        let (id, _) = addressed(request)?;
        let described = self.sandbox.get(&id).await.map_err(refusal)?;
        Ok(Response::new(StateResponse {
            bundle: String::new(),
            pid: described.init.pid.as_raw() as u32,
            status: convert::status(described.status).into(),
            processes: self.list(&id).await?,
            id,
        }))
    }

    async fn processes(&self, request: Request<ProcessesRequest>) -> Answer<ProcessesResponse> {
        let (id, _) = addressed(request)?;
        Ok(Response::new(ProcessesResponse { processes: self.list(&id).await? }))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<()> {
        let (id, _) = addressed(request)?;
        Ok(Response::new(self.sandbox.pause(&id).await.map_err(refusal)?))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Answer<()> {
        let (id, _) = addressed(request)?;
        Ok(Response::new(self.sandbox.resume(&id).await.map_err(refusal)?))
    }

    async fn checkpoint(&self, _: Request<CheckpointRequest>) -> Answer<()> {
        Err(Status::unimplemented("a single container cannot be checkpointed; snapshot its sandbox instead"))
    }

    async fn exit(&self, request: Request<ExitRequest>) -> Answer<()> {
        let (id, _) = addressed(request)?;
        Ok(Response::new(self.sandbox.release(&id).await.map_err(refusal)?))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<types::Event, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let (id, _) = addressed(request)?;
        let events = self.sandbox.follow(&id)?;
        let events = events.map(move |told| Ok(convert::told(&id, told)));
        let superseded = [Err(Status::aborted("another consumer has asked for the events"))];
        Ok(Response::new(self.stop.ends(events.chain(tokio_stream::iter(superseded)))))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        let (id, KillRequest { signal, all, pid }) = addressed(request)?;
        let target = if all { Target::All } else { Target::Process(pid) };
        Ok(Response::new(self.sandbox.kill(&id, signal, target).await.map_err(refusal)?))
    }

    async fn exec(&self, request: Request<shim::ExecRequest>) -> Answer<ExecResponse> {
        let (id, shim::ExecRequest { terminal, stdin, stdout, stderr, spec }) = addressed(request)?;
        let spec = spec.ok_or_else(|| Status::invalid_argument("an exec needs a process"))?;
        let names = Names { stdin, stdout, stderr, terminal };
        let exec = ExecRequest { process: &spec.value, names };
        Ok(Response::new(ExecResponse { pid: self.sandbox.exec(&id, exec).await.map_err(refusal)? }))
    }

    async fn pty(&self, request: Request<PtyRequest>) -> Answer<()> {
        let (id, PtyRequest { pid, width, height }) = addressed(request)?;
        let resized = self.sandbox.resize(&id, pid, width, height).await;
        Ok(Response::new(resized.map_err(|error| match error {
            Error::NoProcess { pid, .. } => Status::not_found(format!("process does not exist {pid}")),
            other => refusal(other),
        })?))
    }

    async fn close_stdin(&self, request: Request<CloseStdinRequest>) -> Answer<()> {
        let (id, CloseStdinRequest { pid }) = addressed(request)?;
        Ok(Response::new(self.sandbox.close_stdin(&id, pid).await.map_err(refusal)?))
    }
}

impl Service {
    async fn list(&self, id: &str) -> Result<Vec<types::Process>, Status> {
        let members = self.sandbox.processes(id).await.map_err(refusal)?;
        Ok(members.into_iter().map(convert::process).collect())
    }
}
