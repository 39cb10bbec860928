//! Every way in to the same containers: what one call means at each of the interfaces.

mod limits;
mod processes;
mod sandboxes;
mod shim;

use std::path::{Path, PathBuf};

use prost_types::Any;
use serde_json::json;
use theca_proto::containerd::services::containers::v1 as records;
use theca_proto::containerd::services::containers::v1::containers_client::ContainersClient;
use theca_proto::containerd::services::sandbox::v1::controller_client::ControllerClient;
use theca_proto::containerd::services::sandbox::v1::store_client::StoreClient;
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::tasks_client::TasksClient;
use theca_proto::containerd::task::v3;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::containerd::v1 as execution;
use theca_proto::containerd::v1::execution_service_client::ExecutionServiceClient;
use theca_proto::containerd::v1::types::{self as wire, Mount};
use theca_proto::generations::containerd::services::sandbox::v1::controller_client::ControllerClient as ControllerClient2022;
use theca_proto::ttrpc_glue::Caller;
use theca_proto::type_url;
use theca_proto::types as api;
use theca_proto::types::api_client::ApiClient;
use theca_tests::Bundle;
use theca_tests::client::{Named, open, origin};
use tonic::{Code, Status, Streaming};

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `types.API`, 2015.
    Api,
    /// ExecutionService, 2016.
    Execution,
    /// Tasks and Containers, 2017.
    Tasks,
    /// The task API of the sandbox's keeper, today.
    Keeper,
    /// The Shim of a container, 2017, which the keeper serves too. It knows no other container, and processes by the guest's pids.
    Shim,
}

/// A process that was added: how keepers know it, if we do, and its pid, if it has one.
#[derive(Clone, Debug, Default)]
pub struct Added {
    pub exec: Option<String>,
    pub pid: Option<u32>,
    /// It ends by itself.
    pub brief: bool,
    /// It goes with its end, as those of 2015 do.
    pub fleeting: bool,
}

/// All of them, open.
pub struct Doors {
    api: ApiClient<Named>,
    execution: ExecutionServiceClient<Named>,
    tasks: TasksClient<Named>,
    records: ContainersClient<Named>,
    controller: ControllerClient<Named>,
    store: StoreClient<Named>,
    controller_2022: ControllerClient2022<Named>,
    state: PathBuf,
    /// The disk that Tasks.Create names.
    disk: PathBuf,
    /// One that joins each sandbox.
    bundles: Vec<(String, Bundle)>,
}

type Answer<T> = Result<T, Status>;

impl Doors {
    pub async fn open(state: &Path, disk: PathBuf, sandboxes: &[&str]) -> Self {
        let today = open(&state.join("thecad.sock")).await.unwrap();
        let older = open(&state.join("thecad-2022.sock")).await.unwrap();
        let bundle = |sandbox: &&str| {
            let mut bundle = Bundle::new(&["sleep", "1000"]);
            bundle.config["annotations"] = json!({ "io.theca.sandbox": sandbox });
            bundle.path();
            ((*sandbox).to_owned(), bundle)
        };
        Self {
            api: ApiClient::with_origin(today.clone(), origin()),
            execution: ExecutionServiceClient::with_origin(older.clone(), origin()),
            tasks: TasksClient::with_origin(today.clone(), origin()),
            records: ContainersClient::with_origin(today.clone(), origin()),
            controller: ControllerClient::with_origin(today.clone(), origin()),
            store: StoreClient::with_origin(today, origin()),
            controller_2022: ControllerClient2022::with_origin(older, origin()),
            state: state.to_owned(),
            disk,
            bundles: sandboxes.iter().map(bundle).collect(),
        }
    }

    pub async fn events(&self) -> Streaming<api::Event> {
        self.api.clone().events(api::EventsRequest {}).await.unwrap().into_inner()
    }

    fn bundle(&self, sandbox: &str) -> String {
        let bundle = self.bundles.iter().find(|(name, _)| name == sandbox);
        bundle.expect("each sandbox has one").1.path().to_string_lossy().into_owned()
    }

    async fn keeper(&self, sandbox: &str) -> TaskClient {
        TaskClient::new(self.caller(sandbox).await)
    }

    async fn caller(&self, sandbox: &str) -> Caller {
        let address = format!("unix://{}/default/{sandbox}/keeper.sock", self.state.display());
        Caller::new(ttrpc::r#async::Client::connect(&address).await.unwrap())
    }

    /// By [`Door::Api`] it runs then, by the others it waits for its start.
    pub async fn create(&self, door: Door, id: &str, sandbox: &str) -> Answer<()> {
        // A record of another time named another sandbox. It stays while there is a task.
        self.forget_records(&[id]).await;
        let (id, bundle) = (id.to_owned(), self.bundle(sandbox));
        match door {
            Door::Api => {
                let request = api::CreateContainerRequest { id, bundle_path: bundle, ..Default::default() };
                self.api.clone().create_container(request).await.map(drop)
            }
            Door::Execution => {
                let request =
                    execution::CreateContainerRequest { id, bundle_path: bundle, ..Default::default() };
                self.execution.clone().create_container(request).await.map(drop)
            }
            Door::Tasks => {
                let spec = std::fs::read(Path::new(&bundle).join("config.json")).unwrap();
                let record = records::Container {
                    id: id.clone(),
                    sandbox: sandbox.into(),
                    spec: Some(any(type_url::OCI_SPEC, spec)),
                    ..Default::default()
                };
                let record = records::CreateContainerRequest { container: Some(record) };
                let _ = self.records.clone().create(record).await;
                let rootfs = Mount {
                    r#type: "erofs".into(),
                    source: self.disk.display().to_string(),
                    target: String::new(),
                    options: vec!["ro".into()],
                };
                let request =
                    tasks::CreateTaskRequest { container_id: id, rootfs: vec![rootfs], ..Default::default() };
                self.tasks.clone().create(request).await.map(drop)
            }
            Door::Keeper => {
                let request = v3::CreateTaskRequest { id, bundle, ..Default::default() };
                plain(self.keeper(sandbox).await.create(request).await)
            }
            Door::Shim => self.shim(&id, sandbox).await?.create(id, bundle).await,
        }
    }

    pub async fn start(&self, door: Door, id: &str, sandbox: &str) -> Answer<()> {
        let id = id.to_owned();
        match door {
            Door::Api => unreachable!("its containers run when they are created"),
            Door::Execution => {
                let request = execution::StartContainerRequest { id };
                self.execution.clone().start_container(request).await.map(drop)
            }
            Door::Tasks => {
                self.tasks.clone().start(tasks::StartTaskRequest { container_id: id }).await.map(drop)
            }
            Door::Keeper => {
                let request = v3::StartRequest { id, ..Default::default() };
                plain(self.keeper(sandbox).await.start(request).await)
            }
            Door::Shim => self.shim(&id, sandbox).await?.start().await,
        }
    }

    pub async fn pause(&self, door: Door, id: &str, sandbox: &str) -> Answer<()> {
        let id = id.to_owned();
        match door {
            Door::Api => {
                let request =
                    api::UpdateContainerRequest { id, status: "paused".into(), ..Default::default() };
                self.api.clone().update_container(request).await.map(drop)
            }
            Door::Execution => {
                let request = execution::PauseContainerRequest { id };
                self.execution.clone().pause_container(request).await.map(drop)
            }
            Door::Tasks => {
                self.tasks.clone().pause(tasks::PauseTaskRequest { container_id: id }).await.map(drop)
            }
            Door::Keeper => plain(self.keeper(sandbox).await.pause(v3::PauseRequest { id }).await),
            Door::Shim => self.shim(&id, sandbox).await?.pause().await,
        }
    }

    pub async fn resume(&self, door: Door, id: &str, sandbox: &str) -> Answer<()> {
        let id = id.to_owned();
        match door {
            Door::Api => {
                let request =
                    api::UpdateContainerRequest { id, status: "running".into(), ..Default::default() };
                self.api.clone().update_container(request).await.map(drop)
            }
            Door::Execution => {
                let request = execution::ResumeContainerRequest { id };
                self.execution.clone().resume_container(request).await.map(drop)
            }
            Door::Tasks => {
                self.tasks.clone().resume(tasks::ResumeTaskRequest { container_id: id }).await.map(drop)
            }
            Door::Keeper => plain(self.keeper(sandbox).await.resume(v3::ResumeRequest { id }).await),
            Door::Shim => self.shim(&id, sandbox).await?.resume().await,
        }
    }

    /// SIGKILL to a process, or to its init.
    pub async fn kill(&self, door: Door, id: &str, sandbox: &str, process: Option<&Added>) -> Answer<()> {
        let (id, signal) = (id.to_owned(), 9);
        // 0 is init's.
        let pid = process.map_or(0, |process| process.pid.unwrap_or(NOBODY));
        match door {
            Door::Api => self.api.clone().signal(api::SignalRequest { id, pid, signal }).await.map(drop),
            Door::Execution => {
                let request = execution::SignalProcessRequest { container_id: id, pid, signal };
                self.execution.clone().signal_process(request).await.map(drop)
            }
            Door::Tasks => {
                let whom = if process.is_none() { PidOrAll::All(true) } else { PidOrAll::Pid(pid) };
                let request = tasks::KillRequest { container_id: id, signal, pid_or_all: Some(whom) };
                self.tasks.clone().kill(request).await.map(drop)
            }
            Door::Keeper => {
                let request =
                    v3::KillRequest { id, exec_id: exec_id(process), signal, all: process.is_none() };
                plain(self.keeper(sandbox).await.kill(request).await)
            }
            Door::Shim => self.shim(&id, sandbox).await?.kill(signal).await,
        }
    }

    /// Answers how it ended, where the interface tells.
    pub async fn delete(
        &self,
        door: Door,
        id: &str,
        sandbox: &str,
        process: Option<&Added>,
    ) -> Answer<Option<u32>> {
        let id = id.to_owned();
        let pid = process.map_or(0, |process| process.pid.unwrap_or(NOBODY));
        match (door, process) {
            (Door::Api, _) => unreachable!("init's exit deletes"),
            (Door::Execution, None) => {
                let request = execution::DeleteContainerRequest { id, pid };
                self.execution.clone().delete_container(request).await.map(|_| None)
            }
            (Door::Execution, Some(_)) => {
                let request = execution::DeleteProcessRequest { container_id: id, pid };
                self.execution.clone().delete_process(request).await.map(|_| None)
            }
            (Door::Tasks, None) => {
                let deleted =
                    self.tasks.clone().delete(tasks::DeleteTaskRequest { container_id: id }).await?;
                Ok(Some(deleted.into_inner().exit_status))
            }
            (Door::Tasks, Some(_)) => {
                let request = tasks::DeleteProcessRequest { container_id: id, pid };
                Ok(Some(self.tasks.clone().delete_process(request).await?.into_inner().exit_status))
            }
            (Door::Keeper, _) => {
                let request = v3::DeleteRequest { id, exec_id: exec_id(process) };
                let deleted = self.keeper(sandbox).await.delete(request).await.map_err(status)?;
                Ok(Some(deleted.exit_status))
            }
            (Door::Shim, _) => self.shim(&id, sandbox).await?.delete().await.map(Some),
        }
    }

    /// Where every container stands, by Tasks.
    pub async fn containers(&self) -> Vec<wire::Task> {
        self.tasks.clone().list(tasks::ListTasksRequest::default()).await.unwrap().into_inner().tasks
    }

    /// The same by ExecutionService.
    pub async fn containers_of_2016(&self) -> Vec<execution::Container> {
        let request = execution::ListContainersRequest::default();
        self.execution.clone().list_containers(request).await.unwrap().into_inner().containers
    }

    /// The same by `types.API`, with the processes that live.
    pub async fn containers_of_2015(&self) -> Vec<api::Container> {
        self.api.clone().state(api::StateRequest {}).await.unwrap().into_inner().containers
    }

    pub async fn forget_records(&self, ids: &[&str]) {
        for id in ids {
            // Most containers came without one.
            let _ = self.records.clone().delete(records::DeleteContainerRequest { id: (*id).into() }).await;
        }
    }
}

/// Nobody has so large a pid.
const NOBODY: u32 = 1 << 30;

fn exec_id(process: Option<&Added>) -> String {
    process.map_or_else(String::new, |process| process.exec.clone().unwrap_or_else(|| "nobody".into()))
}

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.into(), value }
}

fn status(error: ttrpc::Error) -> Status {
    match error {
        ttrpc::Error::RpcStatus(status) => {
            Status::new(Code::from_i32(status.code() as i32), status.message())
        }
        other => Status::unavailable(other.to_string()),
    }
}

fn plain<T>(answer: ttrpc::Result<T>) -> Answer<()> {
    answer.map(drop).map_err(status)
}
