//! `containerd.services.sandbox.v1.Controller` as it was in February 2022: Start makes the sandbox too, Shutdown has the
//! timeout, and there are Pause, Resume and Ping.

use theca_controller::node::Node;
use theca_proto::generations::containerd::services::sandbox::v1::controller_server::Controller;
use theca_proto::generations::containerd::services::sandbox::v1::{
    ControllerPauseRequest, ControllerPauseResponse, ControllerPingRequest, ControllerPingResponse,
    ControllerResumeRequest, ControllerResumeResponse, ControllerShutdownRequest, ControllerShutdownResponse,
    ControllerStartRequest, ControllerStartResponse, ControllerStatusRequest, ControllerStatusResponse,
    ControllerWaitRequest, ControllerWaitResponse,
};
use tonic::Request;

use crate::call::{Answer, answer, id, open};
use crate::convert::{sandbox, time};
use crate::sandbox_controller::timeout;
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct SandboxController2022 {
    node: Node,
}

impl SandboxController2022 {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

#[tonic::async_trait]
impl Controller for SandboxController2022 {
    async fn start(&self, request: Request<ControllerStartRequest>) -> Answer<ControllerStartResponse> {
        let (namespace, request) = open(request)?;
        let create = sandbox::run(request, self.node.machine().cpus).map_err(refusal)?;
        let sandbox_id = create.id.to_string();
        let started = self.node.run_sandbox(&namespace, create).await.map_err(refusal)?;
        answer(ControllerStartResponse { sandbox_id, pid: started.pid })
    }

    async fn shutdown(
        &self,
        request: Request<ControllerShutdownRequest>,
    ) -> Answer<ControllerShutdownResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let ended = self.node.shutdown_sandbox(&namespace, &id, timeout(request.timeout_secs)).await;
        ended.map_err(refusal)?;
        answer(ControllerShutdownResponse {})
    }

    async fn wait(&self, request: Request<ControllerWaitRequest>) -> Answer<ControllerWaitResponse> {
        let (namespace, request) = open(request)?;
        let exit = self.node.wait_sandbox(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        answer(ControllerWaitResponse { exit_status: exit.status, exited_at: Some(time::wire(exit.at)) })
    }

    async fn pause(&self, request: Request<ControllerPauseRequest>) -> Answer<ControllerPauseResponse> {
        let (namespace, request) = open(request)?;
        self.node.pause_sandbox(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        answer(ControllerPauseResponse {})
    }

    async fn resume(&self, request: Request<ControllerResumeRequest>) -> Answer<ControllerResumeResponse> {
        let (namespace, request) = open(request)?;
        self.node.resume_sandbox(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        answer(ControllerResumeResponse {})
    }

    async fn ping(&self, request: Request<ControllerPingRequest>) -> Answer<ControllerPingResponse> {
        let (namespace, request) = open(request)?;
        self.node.ping_sandbox(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        answer(ControllerPingResponse {})
    }

    async fn status(&self, request: Request<ControllerStatusRequest>) -> Answer<ControllerStatusResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let status = self.node.sandbox_status(&namespace, &id, false).await.map_err(refusal)?;
        answer(sandbox::status_2022(status))
    }
}
