//! The agent's two services as the domain's [`Agent`].

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::Uri;
use prost_types::Any;
use theca_controller::agent::{
    Agent, AgentError, CgroupFiles, GuestInfo, GuestSpec, LONGEST_CALL, Rootfs, StreamIds, Target,
};
use theca_controller::id::ContainerId;
use theca_controller::sandbox::Allowance;
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::grpc_channel::Channel;
use theca_proto::theca::agent::v1 as agent;
use theca_proto::type_url;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::{Response, Status};

use crate::convert;

type AgentClient = agent::agent_client::AgentClient<Channel>;
type TasksClient = tasks::tasks_client::TasksClient<Channel>;

/// Pause before events are asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// Largest answer.
const MAX_ANSWER: usize = 1024 * 1024;
/// Most of a kernel log that is kept: its end.
const MAX_KERNEL_LOG: usize = 1024 * 1024;

/// An agent on one connection.
#[derive(Clone, Debug)]
pub struct GrpcAgent {
    agent: AgentClient,
    tasks: TasksClient,
}

impl GrpcAgent {
    pub fn new(channel: Channel) -> Self {
        // HTTP/2 wants an authority; nobody looks at this one.
        let origin = Uri::from_static("http://guest");
        let agent = AgentClient::with_origin(channel.clone(), origin.clone());
        let tasks = TasksClient::with_origin(channel, origin);
        Self {
            agent: agent.max_decoding_message_size(MAX_ANSWER),
            tasks: tasks.max_decoding_message_size(MAX_ANSWER),
        }
    }

    fn agent(&self) -> AgentClient {
        self.agent.clone()
    }

    fn tasks(&self) -> TasksClient {
        self.tasks.clone()
    }

    /// Until the stream ends or nobody listens.
    async fn follow_memory(&self, told: &mpsc::Sender<ContainerId>) -> Result<(), Status> {
        let mut events = self.agent().events(agent::EventsRequest {}).await?.into_inner();
        while let Some(event) = events.message().await? {
            let killed = matches!(event.event, Some(agent::event::Event::Oom(_)));
            // A name that is none is a guest's word too.
            let Ok(container) = event.container_id.parse() else { continue };
            if killed && told.send(container).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Waits for an answer, as long as a call may take.
async fn answer<T>(
    call: &'static str,
    pending: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, AgentError> {
    answer_within(LONGEST_CALL, call, pending).await
}

async fn answer_within<T>(
    limit: Duration,
    call: &'static str,
    pending: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, AgentError> {
    match timeout(limit, pending).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(convert::agent::error(&status)),
        Err(_) => Err(AgentError::TimedOut { call, limit }),
    }
}

#[async_trait]
impl Agent for GrpcAgent {
    async fn prepare(
        &self,
        container: &ContainerId,
        spec: GuestSpec,
        rootfs: Rootfs,
    ) -> Result<(), AgentError> {
        let request = agent::PrepareRequest {
            container_id: container.to_string(),
            spec: spec.json.into(),
            rootfs: Some(convert::agent::rootfs(rootfs)),
            files: spec.files.into_iter().map(convert::agent::file).collect(),
        };
        answer("Prepare", self.agent().prepare(request)).await.map(drop)
    }

    async fn create(
        &self,
        container: &ContainerId,
        io: StreamIds,
        terminal: bool,
    ) -> Result<u32, AgentError> {
        let request = tasks::CreateTaskRequest {
            container_id: container.to_string(),
            stdin: io.stdin.unwrap_or_default(),
            stdout: io.stdout.unwrap_or_default(),
            stderr: io.stderr.unwrap_or_default(),
            terminal,
            ..Default::default()
        };
        answer("Create", self.tasks().create(request)).await.map(|created| created.pid)
    }

    async fn start(&self, container: &ContainerId) -> Result<(), AgentError> {
        let request = tasks::StartTaskRequest { container_id: container.to_string() };
        answer("Start", self.tasks().start(request)).await
    }

    async fn exec(
        &self,
        container: &ContainerId,
        io: StreamIds,
        terminal: bool,
        process: Vec<u8>,
    ) -> Result<u32, AgentError> {
        let request = tasks::ExecProcessRequest {
            container_id: container.to_string(),
            stdin: io.stdin.unwrap_or_default(),
            stdout: io.stdout.unwrap_or_default(),
            stderr: io.stderr.unwrap_or_default(),
            terminal,
            spec: Some(Any { type_url: type_url::OCI_PROCESS.into(), value: process }),
        };
        answer("Exec", self.tasks().exec(request)).await.map(|started| started.pid)
    }

    async fn wait(&self, container: &ContainerId, pid: u32) -> Result<u32, AgentError> {
        let request = agent::WaitRequest { container_id: container.to_string(), pid, output: false };
        // Without a bound: a process may run for ever.
        let waited = self.agent().wait(request).await;
        waited.map(|exit| exit.into_inner().exit_status).map_err(|status| convert::agent::error(&status))
    }

    async fn wait_for_output(&self, container: &ContainerId, pid: u32) -> Result<(), AgentError> {
        let request = agent::WaitRequest { container_id: container.to_string(), pid, output: true };
        // Without a bound either: a reader may take its time.
        self.agent().wait(request).await.map(drop).map_err(|status| convert::agent::error(&status))
    }

    async fn kill(&self, container: &ContainerId, target: Target, signal: u32) -> Result<(), AgentError> {
        let pid_or_all = Some(match target {
            Target::Process(pid) => tasks::kill_request::PidOrAll::Pid(pid),
            Target::All => tasks::kill_request::PidOrAll::All(true),
        });
        let request = tasks::KillRequest { container_id: container.to_string(), signal, pid_or_all };
        answer("Kill", self.tasks().kill(request)).await
    }

    async fn resize(
        &self,
        container: &ContainerId,
        pid: u32,
        width: u32,
        height: u32,
    ) -> Result<(), AgentError> {
        let request = tasks::ResizePtyRequest { container_id: container.to_string(), pid, width, height };
        answer("ResizePty", self.tasks().resize_pty(request)).await
    }

    async fn pause(&self, container: &ContainerId) -> Result<(), AgentError> {
        let request = tasks::PauseTaskRequest { container_id: container.to_string() };
        answer("Pause", self.tasks().pause(request)).await
    }

    async fn resume(&self, container: &ContainerId) -> Result<(), AgentError> {
        let request = tasks::ResumeTaskRequest { container_id: container.to_string() };
        answer("Resume", self.tasks().resume(request)).await
    }

    async fn update(&self, container: &ContainerId, resources: Vec<u8>) -> Result<(), AgentError> {
        let request =
            agent::UpdateRequest { container_id: container.to_string(), resources: Bytes::from(resources) };
        answer("Update", self.agent().update(request)).await.map(drop)
    }

    async fn allow(&self, allowance: &Allowance) -> Result<(), AgentError> {
        let resources = Bytes::from(allowance.to_oci());
        let request = agent::UpdateRequest { container_id: String::new(), resources };
        answer("Update", self.agent().update(request)).await.map(drop)
    }

    async fn stats(&self, container: &ContainerId) -> Result<CgroupFiles, AgentError> {
        let request = agent::StatsRequest { container_id: container.to_string() };
        answer("Stats", self.agent().stats(request)).await.map(convert::agent::stats)
    }

    async fn stats_of_all(&self) -> Result<CgroupFiles, AgentError> {
        let request = agent::StatsRequest { container_id: String::new() };
        answer("Stats", self.agent().stats(request)).await.map(convert::agent::stats)
    }

    async fn watch_memory(&self, told: mpsc::Sender<ContainerId>) -> Result<(), AgentError> {
        loop {
            let failed = match self.follow_memory(&told).await {
                Ok(()) => return Ok(()),
                Err(status) => convert::agent::error(&status),
            };
            // Cut off because it came faster than it was read: what was missed is in the counters too.
            if !matches!(failed, AgentError::Refused { .. }) {
                return Err(failed);
            }
            sleep(AGAIN).await;
        }
    }

    async fn delete(&self, container: &ContainerId, pid: Option<u32>) -> Result<(), AgentError> {
        let container_id = container.to_string();
        let Some(pid) = pid else {
            let request = tasks::DeleteTaskRequest { container_id };
            return answer("Delete", self.tasks().delete(request)).await.map(drop);
        };
        let request = tasks::DeleteProcessRequest { container_id, pid };
        answer("DeleteProcess", self.tasks().delete_process(request)).await.map(drop)
    }

    async fn release(&self, container: &ContainerId) -> Result<(), AgentError> {
        let request = agent::ReleaseRequest { container_id: container.to_string() };
        answer("Release", self.agent().release(request)).await.map(drop)
    }

    async fn info(&self) -> Result<GuestInfo, AgentError> {
        answer("Info", self.agent().info(agent::InfoRequest {})).await.map(convert::agent::info)
    }

    async fn kernel_log(&self) -> Result<Vec<u8>, AgentError> {
        let collect = async {
            let mut pieces = self.agent().kernel_log(agent::KernelLogRequest {}).await?.into_inner();
            let mut log = Vec::new();
            while let Some(piece) = pieces.message().await? {
                log.extend_from_slice(&piece.data);
                let excess = log.len().saturating_sub(MAX_KERNEL_LOG);
                log.drain(..excess);
            }
            Ok(Response::new(log))
        };
        answer("KernelLog", collect).await
    }

    async fn set_clock(&self, now: SystemTime) -> Result<(), AgentError> {
        let request = agent::SetClockRequest { now: Some(now.into()) };
        answer("SetClock", self.agent().set_clock(request)).await.map(drop)
    }

    async fn shutdown(&self, grace: Duration) -> Result<(), AgentError> {
        let timeout_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let limit = LONGEST_CALL.saturating_add(grace);
        let request = agent::ShutdownRequest { timeout_ms };
        answer_within(limit, "Shutdown", self.agent().shutdown(request)).await.map(drop)
    }
}
