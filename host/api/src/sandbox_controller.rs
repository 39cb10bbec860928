//! `containerd.services.sandbox.v1.Controller` as it is today. `sandboxer` names the plugin that containerd came through
//! and is not read.

use std::time::Duration;

use theca_controller::node::Node;
use theca_proto::containerd::services::sandbox::v1::controller_server::Controller;
use theca_proto::containerd::services::sandbox::v1::{
    ControllerCreateRequest, ControllerCreateResponse, ControllerMetricsRequest, ControllerMetricsResponse,
    ControllerPlatformRequest, ControllerPlatformResponse, ControllerShutdownRequest,
    ControllerShutdownResponse, ControllerStartRequest, ControllerStartResponse, ControllerStatusRequest,
    ControllerStatusResponse, ControllerStopRequest, ControllerStopResponse, ControllerUpdateRequest,
    ControllerUpdateResponse, ControllerWaitRequest, ControllerWaitResponse,
};
use theca_proto::containerd::types::Platform;
use tonic::Request;

use crate::call::{Answer, answer, id, open};
use crate::convert::{sandbox, time};
use crate::status::node::refusal;

/// The service.
#[derive(Clone)]
pub struct SandboxController {
    node: Node,
}

impl SandboxController {
    /// In front of `node`.
    pub fn new(node: &Node) -> Self {
        Self { node: node.clone() }
    }
}

#[tonic::async_trait]
impl Controller for SandboxController {
    async fn create(&self, request: Request<ControllerCreateRequest>) -> Answer<ControllerCreateResponse> {
        let (namespace, request) = open(request)?;
        let create = sandbox::create(request, self.node.machine().cpus).map_err(refusal)?;
        let sandbox_id = create.id.to_string();
        self.node.create_sandbox(&namespace, create).await.map_err(refusal)?;
        answer(ControllerCreateResponse { sandbox_id })
    }

    async fn start(&self, request: Request<ControllerStartRequest>) -> Answer<ControllerStartResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let started = self.node.start_sandbox(&namespace, &id).await.map_err(refusal)?;
        answer(sandbox::started(request.sandbox_id, started))
    }

    async fn platform(
        &self,
        request: Request<ControllerPlatformRequest>,
    ) -> Answer<ControllerPlatformResponse> {
        let (namespace, request) = open(request)?;
        let platform = self.node.platform(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        let platform = Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            ..Platform::default()
        };
        answer(ControllerPlatformResponse { platform: Some(platform) })
    }

    async fn stop(&self, request: Request<ControllerStopRequest>) -> Answer<ControllerStopResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let stopped = self.node.stop_sandbox(&namespace, &id, timeout(request.timeout_secs)).await;
        stopped.map_err(refusal)?;
        answer(ControllerStopResponse {})
    }

    async fn wait(&self, request: Request<ControllerWaitRequest>) -> Answer<ControllerWaitResponse> {
        let (namespace, request) = open(request)?;
        let exit = self.node.wait_sandbox(&namespace, &id(&request.sandbox_id)?).await.map_err(refusal)?;
        answer(ControllerWaitResponse { exit_status: exit.status, exited_at: Some(time::wire(exit.at)) })
    }

    async fn status(&self, request: Request<ControllerStatusRequest>) -> Answer<ControllerStatusResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let status = self.node.sandbox_status(&namespace, &id, request.verbose).await.map_err(refusal)?;
        answer(sandbox::status(status))
    }

    async fn shutdown(
        &self,
        request: Request<ControllerShutdownRequest>,
    ) -> Answer<ControllerShutdownResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        self.node.shutdown_sandbox(&namespace, &id, None).await.map_err(refusal)?;
        answer(ControllerShutdownResponse {})
    }

    async fn metrics(&self, request: Request<ControllerMetricsRequest>) -> Answer<ControllerMetricsResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let metrics = self.node.sandbox_metrics(&namespace, &id).await.map_err(refusal)?;
        answer(ControllerMetricsResponse { metrics: Some(sandbox::metrics(request.sandbox_id, metrics)) })
    }

    async fn update(&self, request: Request<ControllerUpdateRequest>) -> Answer<ControllerUpdateResponse> {
        let (namespace, request) = open(request)?;
        let id = id(&request.sandbox_id)?;
        let update =
            sandbox::update(request.sandbox, &request.fields, self.node.machine().cpus).map_err(refusal)?;
        self.node.update_sandbox(&namespace, &id, update).await.map_err(refusal)?;
        answer(ControllerUpdateResponse {})
    }
}

/// A timeout that a request names; 0 stands for none.
pub fn timeout(seconds: u32) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
#[path = "sandbox_controller_test.rs"]
mod tests;
