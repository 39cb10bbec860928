//! One connection to one keeper.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use theca_controller::agent::LONGEST_CALL;
use theca_controller::id::{ContainerId, ExecId};
use theca_controller::node::Kind;
use theca_controller::node::keeper::{
    Answer, Info, Keeper, KeeperError, NewTask, Page, ProcessReport, Sample, Usage,
};
use theca_controller::node::values::{Exit, Io};
use theca_controller::sandbox::options::DEFAULT_BOOT_TIMEOUT;
use theca_controller::sandbox::{Allowance, LONGEST_PING};
use theca_controller::task::DEATH;
use theca_proto::containerd::task::v3 as task;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::theca::keeper::v1 as wire;
use theca_proto::theca::keeper::v1::keeper_ttrpc::KeeperClient;
use theca_proto::ttrpc_glue::{self, Caller};
use theca_proto::type_url;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::{Code, Error};

use super::convert;
use crate::convert::options::allowance_wire;

/// A bound for what a healthy keeper answers from what it knows, or leaves out where its guest does not answer within seconds;
/// long, because the machine may be busy.
const QUICK: Duration = Duration::from_secs(30);
/// A bound for what the keeper asks its guest, after what it is asking it already. Longer than the guest may take: else the caller
/// is told that it was not done in time, and it is done afterwards.
const GUEST: Duration = Duration::from_secs(150);
/// A bound for what boots a VM, makes an image or asks the guest several times.
const SLOW: Duration = Duration::from_secs(300);
/// What an end may take beyond its grace.
const ENDING: Duration = Duration::from_secs(60);
/// What an answer about events may take beyond the patience that was asked for.
const MARGIN: Duration = Duration::from_secs(20);

const _: () = {
    let guest = LONGEST_CALL.as_secs();
    assert!(QUICK.as_secs() > LONGEST_PING.as_secs());
    assert!(GUEST.as_secs() > 2 * guest);
    // Create boots, prepares and creates; Delete kills, waits for the death, deletes and releases.
    assert!(SLOW.as_secs() > DEFAULT_BOOT_TIMEOUT.as_secs() + 2 * guest);
    assert!(SLOW.as_secs() > 3 * guest + DEATH.as_secs());
};

/// A keeper that was reached.
pub struct Connection {
    caller: Caller,
    task: TaskClient,
    slow_task: TaskClient,
    keeper: KeeperClient,
    /// For what asks the guest.
    guest_keeper: KeeperClient,
    slow_keeper: KeeperClient,
}

impl Connection {
    /// Connects to `socket`; `None` when it is not there, or nobody is behind it.
    pub async fn open(socket: &Path) -> Answer<Option<Self>> {
        let stream = match tokio::net::UnixStream::connect(socket).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let message =
                    format!("the socket path {} is too long: use a shorter THECA_STATE", socket.display());
                return Err(KeeperError::Refused { kind: Kind::InvalidArgument, message });
            }
            Err(error) => {
                let message = format!("failed to reach the keeper at {}: {error}", socket.display());
                return Err(KeeperError::Refused { kind: Kind::Unavailable, message });
            }
        };
        let caller = Caller::new(Client::new(Socket::from(stream)));
        let quick = caller.with_timeout(QUICK);
        let (guest, slow) = (caller.with_timeout(GUEST), caller.with_timeout(SLOW));
        Ok(Some(Self {
            caller,
            // A task does one thing after the other, and nearly all of them in the guest.
            task: TaskClient::new(guest.clone()),
            slow_task: TaskClient::new(slow.clone()),
            keeper: KeeperClient::new(quick),
            guest_keeper: KeeperClient::new(guest),
            slow_keeper: KeeperClient::new(slow),
        }))
    }

    fn bounded(&self, limit: Duration) -> KeeperClient {
        KeeperClient::new(self.caller.with_timeout(limit))
    }
}

#[async_trait]
impl Keeper for Connection {
    async fn create(&self, new: NewTask) -> Answer<()> {
        let request = convert::create(new);
        explain("create a container", self.slow_task.create(request).await).map(drop)
    }

    async fn start(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<()> {
        let request = task::StartRequest { id: container.to_string(), exec_id: name(exec) };
        explain("start a process", self.slow_task.start(request).await).map(drop)
    }

    async fn exec(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        spec: Vec<u8>,
        io: Io,
        forget: bool,
    ) -> Answer<()> {
        let request = task::ExecProcessRequest {
            id: container.to_string(),
            exec_id: exec.to_string(),
            terminal: io.terminal,
            stdin: io.stdin,
            stdout: io.stdout,
            stderr: io.stderr,
            spec: Some(convert::process_to_add(spec, forget)),
        };
        explain("add a process", self.task.exec(request).await).map(drop)
    }

    async fn kill(
        &self,
        container: &ContainerId,
        exec: Option<&ExecId>,
        signal: u32,
        all: bool,
    ) -> Answer<()> {
        let request = task::KillRequest { id: container.to_string(), exec_id: name(exec), signal, all };
        explain("signal a process", self.task.kill(request).await).map(drop)
    }

    async fn delete(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<Exit> {
        let request = task::DeleteRequest { id: container.to_string(), exec_id: name(exec) };
        let deleted = explain("delete a process", self.slow_task.delete(request).await)?;
        Ok(Exit { status: deleted.exit_status, at: convert::time(deleted.exited_at) })
    }

    async fn processes(&self, container: &ContainerId) -> Answer<Vec<ProcessReport>> {
        let request = wire::ProcessesRequest { id: container.to_string() };
        let answer = explain("list processes", self.guest_keeper.processes(request).await)?;
        Ok(answer.processes.into_iter().filter_map(convert::process).collect())
    }

    async fn pause(&self, container: &ContainerId) -> Answer<()> {
        let request = task::PauseRequest { id: container.to_string() };
        explain("pause a container", self.task.pause(request).await).map(drop)
    }

    async fn resume(&self, container: &ContainerId) -> Answer<()> {
        let request = task::ResumeRequest { id: container.to_string() };
        explain("resume a container", self.task.resume(request).await).map(drop)
    }

    async fn resize(
        &self,
        container: &ContainerId,
        exec: Option<&ExecId>,
        width: u32,
        height: u32,
    ) -> Answer<()> {
        let request =
            task::ResizePtyRequest { id: container.to_string(), exec_id: name(exec), width, height };
        explain("resize a terminal", self.task.resize_pty(request).await).map(drop)
    }

    async fn close_io(&self, container: &ContainerId, exec: Option<&ExecId>) -> Answer<()> {
        let request = task::CloseIoRequest { id: container.to_string(), exec_id: name(exec), stdin: true };
        explain("close an input", self.task.close_io(request).await).map(drop)
    }

    async fn update(&self, container: &ContainerId, resources: Vec<u8>) -> Answer<()> {
        let resources = Some(convert::any(type_url::OCI_RESOURCES, resources));
        let request = task::UpdateTaskRequest { id: container.to_string(), resources, ..Default::default() };
        explain("update a container", self.task.update(request).await).map(drop)
    }

    async fn stats(&self, container: &ContainerId) -> Answer<Sample> {
        let request = task::StatsRequest { id: container.to_string() };
        let answer = explain("measure a container", self.task.stats(request).await)?;
        Ok(Sample { at: SystemTime::now(), metrics: convert::payload(answer.stats.unwrap_or_default()) })
    }

    async fn info(&self) -> Answer<Info> {
        let info = explain("describe itself", self.keeper.info(wire::InfoRequest {}).await)?;
        Ok(convert::info(info))
    }

    async fn kernel_log(&self) -> Answer<Vec<u8>> {
        let log = explain("show the kernel log", self.keeper.kernel_log(wire::KernelLogRequest {}).await)?;
        Ok(log.data.into())
    }

    async fn ready(&self) -> Answer<Info> {
        let info = explain("boot", self.slow_keeper.ready(wire::ReadyRequest {}).await)?;
        Ok(convert::info(info))
    }

    async fn ping(&self) -> Answer<()> {
        explain("answer", self.keeper.ping(wire::PingRequest {}).await).map(drop)
    }

    async fn freeze(&self) -> Answer<()> {
        explain("pause", self.keeper.pause(wire::PauseRequest {}).await).map(drop)
    }

    async fn thaw(&self) -> Answer<()> {
        explain("resume", self.keeper.resume(wire::ResumeRequest {}).await).map(drop)
    }

    async fn allow(&self, allowance: Allowance) -> Answer<()> {
        let request = wire::SetAllowanceRequest { allowance: Some(allowance_wire(allowance)) };
        explain("limit its containers", self.slow_keeper.set_allowance(request).await).map(drop)
    }

    async fn usage(&self) -> Answer<Usage> {
        let metrics = explain("measure itself", self.guest_keeper.metrics(wire::MetricsRequest {}).await)?;
        Ok(convert::usage(metrics))
    }

    async fn events(&self, from: u64, patience: Duration) -> Answer<Page> {
        let wait_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let request = wire::EventsRequest { from, wait_ms };
        let answer = self.bounded(patience + MARGIN).events(request).await;
        match explain("tell its events", answer) {
            Ok(page) => Ok(convert::page(page)),
            // So says a keeper whose sandbox is over, once everything was told.
            Err(KeeperError::Refused { kind: Kind::Unavailable, .. }) => {
                Err(KeeperError::Gone { asked: "tell its events" })
            }
            Err(error) => Err(error),
        }
    }

    async fn shutdown(&self, grace: Duration) -> Answer<()> {
        let timeout_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let request = wire::ShutdownRequest { timeout_ms };
        match explain("end", self.bounded(grace.saturating_add(ENDING)).shutdown(request).await) {
            Ok(_) | Err(KeeperError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name(exec: Option<&ExecId>) -> String {
    exec.map(ExecId::to_string).unwrap_or_default()
}

/// A status is the keeper's word; any other error means that the connection is gone.
fn explain<T>(asked: &'static str, answer: ttrpc_glue::Answer<T>) -> Answer<T> {
    answer.map_err(|error| match error {
        Error::RpcStatus(status) => {
            KeeperError::Refused { kind: kind(status.code()), message: status.message().to_owned() }
        }
        _ => KeeperError::Gone { asked },
    })
}

fn kind(code: Code) -> Kind {
    match code {
        Code::NOT_FOUND => Kind::NotFound,
        Code::ALREADY_EXISTS => Kind::AlreadyExists,
        Code::INVALID_ARGUMENT | Code::OUT_OF_RANGE => Kind::InvalidArgument,
        Code::FAILED_PRECONDITION | Code::ABORTED => Kind::FailedPrecondition,
        Code::PERMISSION_DENIED | Code::UNAUTHENTICATED => Kind::PermissionDenied,
        Code::RESOURCE_EXHAUSTED => Kind::ResourceExhausted,
        Code::DEADLINE_EXCEEDED => Kind::DeadlineExceeded,
        Code::UNAVAILABLE => Kind::Unavailable,
        Code::UNIMPLEMENTED => Kind::Unimplemented,
        _ => Kind::Internal,
    }
}
