//! `theca.keeper.v1.Keeper`: what a keeper offers beside the task API.

use std::time::Duration;

use async_trait::async_trait;
use theca_controller::run_dir::RunDir;
use theca_controller::sandbox::Sandbox;
use theca_controller::sys::usage::Usage;
use theca_controller::task::TaskRequest;
use theca_proto::theca::keeper::v1::keeper_ttrpc::Keeper;
use theca_proto::theca::keeper::v1::{
    AttachRequest, AttachResponse, EventsRequest, EventsResponse, InfoRequest, InfoResponse,
    KernelLogRequest, KernelLogResponse, MetricsRequest, MetricsResponse, OpenShimRequest, OpenShimResponse,
    PauseRequest, PauseResponse, PingRequest, PingResponse, ProcessesRequest, ProcessesResponse,
    ReadyRequest, ResumeRequest, ResumeResponse, SetAllowanceRequest, SetAllowanceResponse, ShutdownRequest,
    ShutdownResponse,
};
use theca_proto::ttrpc_glue::Answer;

use crate::convert::{self, history, process, task};
use crate::shim::endpoint::Endpoints;
use crate::status;

/// Events in one answer.
const PAGE: usize = 256;
/// Longest wait for an event.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The service in front of one sandbox.
pub struct KeeperService {
    sandbox: Sandbox,
    endpoints: Endpoints,
}

impl KeeperService {
    /// Serves `sandbox`, whose folder is `folder`.
    pub fn new(sandbox: Sandbox, folder: RunDir) -> Self {
        let endpoints = Endpoints::new(sandbox.clone(), folder);
        Self { sandbox, endpoints }
    }
}

#[async_trait]
impl Keeper for KeeperService {
    async fn attach(&self, request: AttachRequest) -> Answer<AttachResponse> {
        let (id, which) = task::process(&request.id, &request.exec_id).map_err(status::of)?;
        let paths = task::attach_paths(&request).map_err(status::of)?;
        let attached = self.sandbox.ask_task(&id, |reply| TaskRequest::Attach(which, paths, reply)).await;
        Ok(AttachResponse { terminal: attached.map_err(status::of)? })
    }

    async fn kernel_log(&self, _: KernelLogRequest) -> Answer<KernelLogResponse> {
        let data = self.sandbox.kernel_log().await.map_err(status::of)?;
        Ok(KernelLogResponse { data: data.into() })
    }

    async fn info(&self, _: InfoRequest) -> Answer<InfoResponse> {
        self.sandbox.info().await.map(convert::sandbox_info).map_err(status::of)
    }

    async fn processes(&self, request: ProcessesRequest) -> Answer<ProcessesResponse> {
        let (id, _) = task::process(&request.id, "").map_err(status::of)?;
        let processes = self.sandbox.ask_task(&id, TaskRequest::Processes).await.map_err(status::of)?;
        Ok(ProcessesResponse { processes: processes.into_iter().map(process::wire).collect() })
    }

    async fn events(&self, request: EventsRequest) -> Answer<EventsResponse> {
        let patience = Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
        let page = self.sandbox.history().page(request.from, PAGE, patience).await;
        page.map(history::page).map_err(status::of)
    }

    async fn open_shim(&self, request: OpenShimRequest) -> Answer<OpenShimResponse> {
        let (id, _) = task::process(&request.id, "").map_err(status::of)?;
        let socket = self.endpoints.open(id).map_err(status::of_endpoint)?;
        Ok(OpenShimResponse { address: format!("unix://{}", socket.display()) })
    }

    async fn ready(&self, _: ReadyRequest) -> Answer<InfoResponse> {
        self.sandbox.ready().await.map(convert::sandbox_info).map_err(status::of)
    }

    async fn ping(&self, _: PingRequest) -> Answer<PingResponse> {
        self.sandbox.ping().await.map_err(status::of)?;
        Ok(PingResponse {})
    }

    async fn pause(&self, _: PauseRequest) -> Answer<PauseResponse> {
        self.sandbox.pause().await.map_err(status::of)?;
        Ok(PauseResponse {})
    }

    async fn resume(&self, _: ResumeRequest) -> Answer<ResumeResponse> {
        self.sandbox.resume().await.map_err(status::of)?;
        Ok(ResumeResponse {})
    }

    async fn set_allowance(&self, request: SetAllowanceRequest) -> Answer<SetAllowanceResponse> {
        let allowance = convert::options::allowance(request.allowance).map_err(status::of)?;
        self.sandbox.allow(allowance).await.map_err(status::of)?;
        Ok(SetAllowanceResponse {})
    }

    async fn metrics(&self, _: MetricsRequest) -> Answer<MetricsResponse> {
        let metrics = self.sandbox.metrics().await.map_err(status::of)?;
        let (keeper, vmm) = (Usage::of(std::process::id()), Usage::of(metrics.vmm_pid));
        Ok(convert::sandbox_metrics(metrics, keeper, vmm))
    }

    async fn shutdown(&self, request: ShutdownRequest) -> Answer<ShutdownResponse> {
        self.sandbox.stop(Duration::from_millis(request.timeout_ms.into())).await.map_err(status::of)?;
        Ok(ShutdownResponse {})
    }
}
