//! The Shim of one container, at the endpoint that its sandbox's keeper opens for it.

use std::path::Path;

use theca_proto::containerd::v1::services::shim::shim_client::ShimClient;
use theca_proto::containerd::v1::services::shim::*;
use theca_proto::theca::keeper::v1::OpenShimRequest;
use theca_proto::theca::keeper::v1::keeper_ttrpc::KeeperClient;
use theca_tests::client::{Named, open, origin};

use super::{Answer, Doors, status};

/// What a container's own endpoint is asked.
pub struct Shim(ShimClient<Named>);

impl Doors {
    pub(super) async fn shim(&self, id: &str, sandbox: &str) -> Answer<Shim> {
        let keeper = KeeperClient::new(self.caller(sandbox).await);
        let opened = keeper.open_shim(OpenShimRequest { id: id.into() }).await.map_err(status)?;
        let socket = opened.address.strip_prefix("unix://").expect("it is a socket");
        Ok(Shim(ShimClient::with_origin(open(Path::new(socket)).await?, origin())))
    }
}

impl Shim {
    pub async fn create(mut self, id: String, bundle: String) -> Answer<()> {
        self.0.create(CreateRequest { id, bundle, ..Default::default() }).await.map(drop)
    }

    pub async fn start(mut self) -> Answer<()> {
        self.0.start(StartRequest {}).await.map(drop)
    }

    pub async fn pause(mut self) -> Answer<()> {
        self.0.pause(PauseRequest {}).await.map(drop)
    }

    pub async fn resume(mut self) -> Answer<()> {
        self.0.resume(ResumeRequest {}).await.map(drop)
    }

    /// Of all its processes.
    pub async fn kill(mut self, signal: u32) -> Answer<()> {
        self.0.kill(KillRequest { signal, all: true, pid: 0 }).await.map(drop)
    }

    /// Ends it first, if it runs; answers its exit status.
    pub async fn delete(mut self) -> Answer<u32> {
        Ok(self.0.delete(DeleteRequest { pid: 0 }).await?.into_inner().exit_status)
    }
}
