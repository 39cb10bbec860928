//! An Update of what all containers of a sandbox may use, and what is in force of it.

use std::time::Duration;

use prost::Message;
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::containerd::types::{Sandbox, sandbox::Runtime};
use theca_proto::runtime::v1::{LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig};
use theca_proto::type_url;
use tonic::Code;

use super::{Answer, Doors, any};

const PERIOD_US: i64 = 100_000;

impl Doors {
    /// Thousandths of a processor; none: all that the VM has.
    pub async fn limit_sandbox(&self, id: &str, millis: Option<u64>) -> Answer<()> {
        let cpu_quota = millis.map_or(-1, |millis| i64::try_from(millis).unwrap() * PERIOD_US / 1000);
        let resources = LinuxContainerResources { cpu_period: PERIOD_US, cpu_quota, ..Default::default() };
        let linux = LinuxPodSandboxConfig { resources: Some(resources), ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        let options = Some(any(type_url::POD_SANDBOX_CONFIG, config.encode_to_vec()));
        let runtime = Some(Runtime { options, ..Default::default() });
        let request = today::ControllerUpdateRequest {
            sandbox_id: id.into(),
            sandbox: Some(Sandbox { sandbox_id: id.into(), runtime, ..Default::default() }),
            fields: vec!["runtime.options".into()],
            ..Default::default()
        };
        self.controller.clone().update(request).await.map(drop)
    }

    /// The same by a client that goes away after that time, whatever has been done by then.
    pub async fn limit_sandbox_and_go(&self, id: &str, millis: Option<u64>, after: Duration) {
        let _ = tokio::time::timeout(after, self.limit_sandbox(id, millis)).await;
    }

    /// What is in force, by the sandbox's keeper; none for a sandbox that is not there.
    pub async fn limit(&self, id: &str) -> Option<u64> {
        let request =
            today::ControllerStatusRequest { sandbox_id: id.into(), verbose: true, ..Default::default() };
        match self.controller.clone().status(request).await {
            Ok(status) => status.into_inner().info.get("cpu_limit_milli").map(|limit| limit.parse().unwrap()),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }
}
