//! `containerd.v1.services.shim.Shim`: the endpoint of one container, as a gRPC service on a socket of its own.
//!
//! It drives the same task as the task API does, and names processes by their pids in the guest. A sandbox has no such
//! endpoint until somebody asks for it ([`endpoint`]).

pub mod endpoint;
mod events;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use theca_controller::Error;
use theca_controller::id::{ContainerId, ExecId};
use theca_controller::sandbox::Sandbox;
use theca_controller::task::state::{Phase, TaskRefusal};
use theca_controller::task::{AddProcess, Exit, ProcessDetail, TaskHandle, TaskRequest, Which};
use theca_proto::containerd::v1::services::shim::shim_server::Shim;
use theca_proto::containerd::v1::services::shim::*;
use theca_proto::containerd::v1::types;
use tokio::sync::watch;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::convert::{shim, task, time};
use crate::status;
use events::Outbox;

const SIGKILL: u32 = 9;

/// The Shim of one container; clones are the same one.
#[derive(Clone)]
pub struct ShimService(Arc<Inner>);

struct Inner {
    sandbox: Sandbox,
    container: ContainerId,
    outbox: Outbox,
    over: watch::Sender<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

/// An error in the words and with the code that a client of the Shim knows.
fn refusal(error: Error) -> Status {
    match error {
        Error::UnknownContainer => Status::failed_precondition("container hasn't been created yet"),
        other => status::grpc(other),
    }
}

impl ShimService {
    /// Serves `container` of `sandbox`, which need not exist yet.
    pub fn new(sandbox: Sandbox, container: ContainerId) -> Self {
        let outbox = Outbox::new(sandbox.history().clone(), container.clone());
        let over = watch::Sender::new(false);
        Self(Arc::new(Inner { sandbox, container, outbox, over }))
    }

    /// Answers when somebody has asked for the endpoint's end.
    pub async fn over(&self) {
        // The sender is this very value.
        let _ = self.0.over.subscribe().wait_for(|over| *over).await;
    }

    async fn task(&self) -> Result<TaskHandle, Error> {
        self.0.sandbox.task(&self.0.container).await
    }

    async fn processes(&self) -> Result<Vec<ProcessDetail>, Error> {
        self.task().await?.ask(TaskRequest::Processes).await
    }

    async fn named(&self, pid: u32) -> Result<Option<ProcessDetail>, Error> {
        Ok(named(self.processes().await?, pid))
    }

    async fn guest_pid(&self, which: &Which) -> Result<u32, Error> {
        let found = self.processes().await?.into_iter().find(|process| process.exec == *which);
        Ok(found.map_or(0, |process| process.guest_pid))
    }

    /// Ends a process that still runs, with init all others, and forgets it.
    async fn end_and_delete(&self, process: ProcessDetail) -> Result<Exit, Error> {
        let (task, which) = (self.task().await?, process.exec);
        if matches!(process.phase, Phase::Running | Phase::Paused) {
            let kill = |reply| TaskRequest::Kill {
                which: which.clone(),
                signal: SIGKILL,
                all: which.is_none(),
                reply,
            };
            match task.ask(kill).await {
                // It has ended meanwhile.
                Ok(()) | Err(Error::Task(TaskRefusal::AlreadyFinished)) => {}
                Err(error) => return Err(error),
            }
            task.wait(which.clone()).await?;
        }
        let (_, exit) = task.ask(|reply| TaskRequest::Delete(which, reply)).await?;
        Ok(exit)
    }

    async fn add(&self, add: AddProcess) -> Result<u32, Error> {
        let (task, which) = (self.task().await?, Some(add.exec.clone()));
        task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await?;
        if let Err(error) = task.ask(|reply| TaskRequest::Start(which.clone(), reply)).await {
            // Nobody could name it.
            let _ = task.ask(|reply| TaskRequest::Delete(which, reply)).await;
            return Err(error);
        }
        self.guest_pid(&which).await
    }
}

/// The process that `pid` names: 0 and init's own are init. Of several, since the guest gives a pid again when its process has
/// ended: the one that lives, else the one that ended last.
fn named(processes: Vec<ProcessDetail>, pid: u32) -> Option<ProcessDetail> {
    let meant = |process: &ProcessDetail| match pid {
        0 => process.exec.is_none(),
        pid => process.guest_pid == pid,
    };
    let recent =
        |process: &ProcessDetail| (process.phase != Phase::Stopped, process.exit.map(|exit| exit.at));
    processes.into_iter().filter(meant).max_by_key(recent)
}

/// A process added here has no name but its pid; the task wants one. None is given twice, by whichever endpoint of the container.
fn new_exec() -> Result<ExecId, Error> {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    Ok(format!("shim-{}", COUNT.fetch_add(1, Ordering::Relaxed)).parse()?)
}

#[tonic::async_trait]
impl Shim for ShimService {
    async fn create(&self, request: Request<CreateRequest>) -> Answer<CreateResponse> {
        let create = shim::create(request.into_inner(), &self.0.container).map_err(refusal)?;
        self.0.sandbox.create(create).await.map_err(refusal)?;
        let pid = self.guest_pid(&None).await.map_err(refusal)?;
        Ok(Response::new(CreateResponse { pid }))
    }

    async fn start(&self, _: Request<StartRequest>) -> Answer<()> {
        let task = self.task().await.map_err(refusal)?;
        task.ask(|reply| TaskRequest::Start(None, reply)).await.map_err(refusal)?;
        Ok(Response::new(()))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let pid = request.into_inner().pid;
        let process = match self.named(pid).await.map_err(refusal)? {
            Some(process) => Some(process),
            None => self.named(0).await.map_err(refusal)?,
        };
        let process = process.ok_or_else(|| refusal(Error::UnknownContainer))?;
        let exit = self.end_and_delete(process).await.map_err(refusal)?;
        Ok(Response::new(DeleteResponse { exit_status: exit.status, exited_at: Some(time::wire(exit.at)) }))
    }

    async fn state(&self, _: Request<StateRequest>) -> Answer<StateResponse> {
        let task = self.task().await.map_err(refusal)?;
        let report = task.ask(|reply| TaskRequest::State(None, reply)).await.map_err(refusal)?;
        let processes = task.ask(TaskRequest::Processes).await.map_err(refusal)?;
        Ok(Response::new(StateResponse {
            id: self.0.container.to_string(),
            bundle: report.bundle.display().to_string(),
            pid: processes.first().map_or(0, |init| init.guest_pid),
            status: task::status(report.phase).into(),
            processes: processes.into_iter().filter_map(shim::process).collect(),
        }))
    }

    async fn processes(&self, _: Request<ProcessesRequest>) -> Answer<ProcessesResponse> {
        let processes = ShimService::processes(self).await.map_err(refusal)?;
        let processes = processes.into_iter().filter_map(shim::process).collect();
        Ok(Response::new(ProcessesResponse { processes }))
    }

    async fn pause(&self, _: Request<PauseRequest>) -> Answer<()> {
        let task = self.task().await.map_err(refusal)?;
        Ok(Response::new(task.ask(TaskRequest::Pause).await.map_err(refusal)?))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Answer<()> {
        let task = self.task().await.map_err(refusal)?;
        Ok(Response::new(task.ask(TaskRequest::Resume).await.map_err(refusal)?))
    }

    async fn checkpoint(&self, _: Request<CheckpointRequest>) -> Answer<()> {
        Err(refusal(Error::Unsupported("checkpointing a container")))
    }

    /// The endpoint ends, the container does not: it is reached otherwise.
    async fn exit(&self, _: Request<ExitRequest>) -> Answer<()> {
        self.0.over.send_replace(true);
        Ok(Response::new(()))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<types::Event, Status>> + Send>>;

    async fn events(&self, _: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        Ok(Response::new(Box::pin(self.0.outbox.follow())))
    }

    async fn kill(&self, request: Request<KillRequest>) -> Answer<()> {
        let KillRequest { signal, all, pid } = request.into_inner();
        let process = self.named(pid).await.map_err(refusal)?;
        let unknown = || Status::not_found(format!("process {pid} does not exist in container"));
        let which = process.ok_or_else(unknown)?.exec;
        let task = self.task().await.map_err(refusal)?;
        let kill = |reply| TaskRequest::Kill { which, signal, all, reply };
        Ok(Response::new(task.ask(kill).await.map_err(refusal)?))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let exec = new_exec().map_err(refusal)?;
        let add = shim::exec(request.into_inner(), exec).map_err(refusal)?;
        Ok(Response::new(ExecResponse { pid: self.add(add).await.map_err(refusal)? }))
    }

    async fn pty(&self, request: Request<PtyRequest>) -> Answer<()> {
        let PtyRequest { pid, width, height } = request.into_inner();
        let process = self.named(pid).await.map_err(refusal)?;
        let unknown = || Status::not_found(format!("process does not exist {pid}"));
        let which = process.ok_or_else(unknown)?.exec;
        let task = self.task().await.map_err(refusal)?;
        let resize = |reply| TaskRequest::Resize { which, width, height, reply };
        Ok(Response::new(task.ask(resize).await.map_err(refusal)?))
    }

    async fn close_stdin(&self, request: Request<CloseStdinRequest>) -> Answer<()> {
        let pid = request.into_inner().pid;
        let process = self.named(pid).await.map_err(refusal)?;
        let unknown = || Status::not_found(format!("process does not exist {pid}"));
        let which = process.ok_or_else(unknown)?.exec;
        let task = self.task().await.map_err(refusal)?;
        Ok(Response::new(task.ask(|reply| TaskRequest::CloseIo(which, reply)).await.map_err(refusal)?))
    }
}

#[cfg(test)]
#[path = "shim_test.rs"]
mod tests;
