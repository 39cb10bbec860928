//! What is asked of sandboxes: of the controllers, and of the store that keeps their records.

use prost::Message;
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::containerd::types::Sandbox;
use theca_proto::generations::containerd::services::sandbox::v1 as of_2022;
use theca_proto::theca::options::v1::SandboxOptions;
use theca_proto::type_url;
use tonic::{Code, Status};

use super::{Answer, Doors, any};

impl Doors {
    /// Boots a sandbox.
    pub async fn run_sandbox(&self, id: &str, memory_mib: u64) -> Answer<()> {
        let options = SandboxOptions { memory_bytes: memory_mib << 20, ..Default::default() };
        let options = Some(any(type_url::CLIENT_SANDBOX_OPTIONS, options.encode_to_vec()));
        let request =
            of_2022::ControllerStartRequest { sandbox_id: id.into(), options, ..Default::default() };
        self.controller_2022.clone().start(request).await.map(drop)
    }

    pub async fn pause_sandbox(&self, id: &str) -> Answer<()> {
        let request = of_2022::ControllerPauseRequest { sandbox_id: id.into() };
        self.controller_2022.clone().pause(request).await.map(drop)
    }

    pub async fn resume_sandbox(&self, id: &str) -> Answer<()> {
        let request = of_2022::ControllerResumeRequest { sandbox_id: id.into() };
        self.controller_2022.clone().resume(request).await.map(drop)
    }

    pub async fn stop_sandbox(&self, id: &str) -> Answer<()> {
        let request =
            today::ControllerStopRequest { sandbox_id: id.into(), timeout_secs: 1, ..Default::default() };
        self.controller.clone().stop(request).await.map(drop)
    }

    pub async fn shutdown_sandbox(&self, id: &str) -> Answer<()> {
        let request = of_2022::ControllerShutdownRequest { sandbox_id: id.into(), timeout_secs: 1 };
        self.controller_2022.clone().shutdown(request).await.map(drop)
    }

    /// Gives it another label.
    pub async fn label_sandbox(&self, id: &str) -> Answer<()> {
        let request = today::ControllerUpdateRequest {
            sandbox_id: id.into(),
            sandbox: Some(labelled(id)),
            fields: vec!["labels".into()],
            ..Default::default()
        };
        self.controller.clone().update(request).await.map(drop)
    }

    /// Keeps a record of that name.
    pub async fn keep_record(&self, id: &str) -> Answer<()> {
        let request = today::StoreCreateRequest {
            sandbox: Some(Sandbox { labels: Default::default(), ..labelled(id) }),
        };
        self.store.clone().create(request).await.map(drop)
    }

    /// Gives the record a label.
    pub async fn change_record(&self, id: &str) -> Answer<()> {
        let fields = vec!["labels.team".into()];
        let request = today::StoreUpdateRequest { sandbox: Some(labelled(id)), fields };
        let changed = self.store.clone().update(request).await?.into_inner().sandbox.unwrap_or_default();
        let got = self.record(id).await?;
        assert_eq!((got.labels["team"].as_str(), got == changed), ("red", true), "{got:?} and {changed:?}");
        Ok(())
    }

    pub async fn drop_record(&self, id: &str) -> Answer<()> {
        self.store.clone().delete(today::StoreDeleteRequest { sandbox_id: id.into() }).await.map(drop)
    }

    /// Names of the records that are kept.
    pub async fn records(&self) -> Vec<String> {
        let list = self.store.clone().list(today::StoreListRequest::default()).await.unwrap();
        list.into_inner().list.into_iter().map(|record| record.sandbox_id).collect()
    }

    async fn record(&self, id: &str) -> Result<Sandbox, Status> {
        let got = self.store.clone().get(today::StoreGetRequest { sandbox_id: id.into() }).await?;
        Ok(got.into_inner().sandbox.unwrap_or_default())
    }

    /// The word of 2022 for where a sandbox stands; none for one that is not there.
    pub async fn standing(&self, id: &str) -> Option<String> {
        let request = of_2022::ControllerStatusRequest { sandbox_id: id.into() };
        match self.controller_2022.clone().status(request).await {
            Ok(status) => Some(status.into_inner().state),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn labelled(id: &str) -> Sandbox {
    let labels = [("team".to_owned(), "red".to_owned())].into();
    Sandbox { sandbox_id: id.into(), labels, ..Default::default() }
}
