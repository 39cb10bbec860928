//! `theca.keeper.v1.Keeper`: what a keeper offers beside the task API.

use async_trait::async_trait;
use theca_controller::sandbox::Sandbox;
use theca_controller::task::TaskRequest;
use theca_proto::theca::keeper::v1::keeper_ttrpc::Keeper;
use theca_proto::theca::keeper::v1::{
    AttachRequest, AttachResponse, InfoRequest, InfoResponse, KernelLogRequest, KernelLogResponse,
    ProcessesRequest, ProcessesResponse,
};
use theca_proto::ttrpc_glue::Answer;

use crate::convert::{self, process, task};
use crate::status;

/// The service in front of one sandbox.
pub struct KeeperService {
    sandbox: Sandbox,
}

impl KeeperService {
    /// Serves `sandbox`.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
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
}
