//! thecad by its gRPC interfaces: the Controller for sandboxes, Containers and Tasks for what runs in them, and `types.API`
//! for events. Calls wait for their answers, one at a time and never forever; a test that wants several at once has several
//! clients.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use http::Uri;
use prost::Message;
use prost_types::Any;
use serde_json::{Value, json};
use theca_proto::containerd::services::containers::v1 as containers;
use theca_proto::containerd::services::sandbox::v1 as sandbox;
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::containerd::types::Sandbox;
use theca_proto::containerd::v1::types::{Mount, Status as Phase};
use theca_proto::grpc_channel::{self, Channel};
use theca_proto::theca::options::v1::SandboxOptions;
use theca_proto::type_url;
use theca_proto::types::api_client::ApiClient;
use theca_proto::types::{Event, EventsRequest, Stats, StatsRequest};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

/// No call takes longer, not even a boot where KVM is emulated.
const PATIENCE: Duration = Duration::from_secs(180);
const NAMESPACE: &str = "default";

/// A connection whose calls name the namespace.
pub type Named = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// Where the paths of calls begin.
pub fn origin() -> Uri {
    Uri::from_static("http://thecad")
}

/// Connects to one of thecad's sockets.
pub async fn open(socket: &Path) -> Result<Named, Status> {
    let failed = |error: &dyn std::error::Error| Status::unavailable(error.to_string());
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
    let channel = grpc_channel::open(stream).await.map_err(|error| failed(&error))?;
    Ok(InterceptedService::new(channel, |mut request| {
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        Ok(request)
    }))
}

/// A connection to thecad.
pub struct Client {
    runtime: Runtime,
    controller: sandbox::controller_client::ControllerClient<Named>,
    containers: containers::containers_client::ContainersClient<Named>,
    tasks: tasks::tasks_client::TasksClient<Named>,
    api: ApiClient<Named>,
}

impl Client {
    /// Connects to thecad's main socket.
    pub fn connect(socket: &Path) -> Result<Self, Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (named, origin) = (runtime.block_on(open(socket))?, origin());
        Ok(Self {
            runtime,
            controller: sandbox::controller_client::ControllerClient::with_origin(
                named.clone(),
                origin.clone(),
            ),
            containers: containers::containers_client::ContainersClient::with_origin(
                named.clone(),
                origin.clone(),
            ),
            tasks: tasks::tasks_client::TasksClient::with_origin(named.clone(), origin.clone()),
            api: ApiClient::with_origin(named, origin),
        })
    }

    fn ask<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let bounded = async { tokio::time::timeout(PATIENCE, call).await };
        match self.runtime.block_on(bounded) {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer in {PATIENCE:?}"))),
        }
    }

    /// Makes a sandbox of this size without running it.
    pub fn create_sandbox(&self, id: &str, memory_mib: u64) -> Result<(), Status> {
        let options = SandboxOptions { memory_bytes: memory_mib << 20, ..Default::default() };
        self.create_sandbox_of(id, any(type_url::CLIENT_SANDBOX_OPTIONS, options.encode_to_vec()))
    }

    /// Makes a sandbox of these options without running it.
    pub fn create_sandbox_of(&self, id: &str, options: Any) -> Result<(), Status> {
        let request = sandbox::ControllerCreateRequest {
            sandbox_id: id.into(),
            options: Some(options),
            ..Default::default()
        };
        self.ask(self.controller.clone().create(request)).map(drop)
    }

    /// Gives it other options.
    pub fn resize_sandbox(&self, id: &str, options: Any) -> Result<(), Status> {
        let runtime =
            theca_proto::containerd::types::sandbox::Runtime { name: "theca".into(), options: Some(options) };
        let sandbox = Sandbox { runtime: Some(runtime), ..Default::default() };
        let request = sandbox::ControllerUpdateRequest {
            sandbox_id: id.into(),
            sandbox: Some(sandbox),
            fields: vec!["runtime.options".into()],
            ..Default::default()
        };
        self.ask(self.controller.clone().update(request)).map(drop)
    }

    /// Boots it; the answer comes when it takes containers.
    pub fn start_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = sandbox::ControllerStartRequest { sandbox_id: id.into(), ..Default::default() };
        self.ask(self.controller.clone().start(request)).map(drop)
    }

    /// Ends it, in an orderly way if that takes no longer than so many seconds.
    pub fn stop_sandbox(&self, id: &str, timeout_secs: u32) -> Result<(), Status> {
        let request =
            sandbox::ControllerStopRequest { sandbox_id: id.into(), timeout_secs, ..Default::default() };
        self.ask(self.controller.clone().stop(request)).map(drop)
    }

    /// Waits until it has ended; answers its exit status.
    pub fn wait_sandbox(&self, id: &str) -> Result<u32, Status> {
        let request = sandbox::ControllerWaitRequest { sandbox_id: id.into(), ..Default::default() };
        Ok(self.ask(self.controller.clone().wait(request))?.exit_status)
    }

    /// Ends and forgets it, whatever it was.
    pub fn shutdown_sandbox(&self, id: &str) -> Result<(), Status> {
        let request = sandbox::ControllerShutdownRequest { sandbox_id: id.into(), ..Default::default() };
        self.ask(self.controller.clone().shutdown(request)).map(drop)
    }

    /// What a verbose Status tells of it.
    pub fn sandbox_info(&self, id: &str) -> Result<HashMap<String, String>, Status> {
        let request =
            sandbox::ControllerStatusRequest { sandbox_id: id.into(), verbose: true, ..Default::default() };
        Ok(self.ask(self.controller.clone().status(request))?.info)
    }

    /// Keeps the record of a container that is to run in `sandbox`.
    pub fn keep(&self, id: &str, sandbox: &str, spec: &Value) -> Result<(), Status> {
        let container = containers::Container {
            id: id.into(),
            sandbox: sandbox.into(),
            spec: Some(any(type_url::OCI_SPEC, spec.to_string().into_bytes())),
            ..Default::default()
        };
        let request = containers::CreateContainerRequest { container: Some(container) };
        self.ask(self.containers.clone().create(request)).map(drop)
    }

    /// Forgets the record.
    pub fn forget(&self, id: &str) -> Result<(), Status> {
        let request = containers::DeleteContainerRequest { id: id.into() };
        self.ask(self.containers.clone().delete(request)).map(drop)
    }

    /// Makes the task of a record: its init waits for [`start`](Self::start). Without a `disk`, the EROFS image that is its
    /// root, the specification names a folder.
    pub fn create(&self, id: &str, disk: Option<&Path>) -> Result<u32, Status> {
        self.create_with(id, disk, String::new())
    }

    /// The same with its output appended to a file.
    pub fn create_to(&self, id: &str, disk: Option<&Path>, output: &Path) -> Result<u32, Status> {
        self.create_with(id, disk, format!("file://{}", output.display()))
    }

    fn create_with(&self, id: &str, disk: Option<&Path>, stdout: String) -> Result<u32, Status> {
        let mount = |disk: &Path| Mount {
            r#type: "erofs".into(),
            source: disk.display().to_string(),
            target: String::new(),
            options: vec!["ro".into()],
        };
        let rootfs = disk.map(mount).into_iter().collect();
        let request =
            tasks::CreateTaskRequest { container_id: id.into(), rootfs, stdout, ..Default::default() };
        Ok(self.ask(self.tasks.clone().create(request))?.pid)
    }

    /// Lets its init run.
    pub fn start(&self, id: &str) -> Result<(), Status> {
        self.ask(self.tasks.clone().start(tasks::StartTaskRequest { container_id: id.into() }))
    }

    /// Adds a process; answers its pid in the guest.
    pub fn exec(&self, id: &str, args: &[&str]) -> Result<u32, Status> {
        let process = json!({ "args": args, "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "user": { "uid": 0, "gid": 0 } });
        let spec = Some(any(type_url::OCI_PROCESS, process.to_string().into_bytes()));
        let request = tasks::ExecProcessRequest { container_id: id.into(), spec, ..Default::default() };
        Ok(self.ask(self.tasks.clone().exec(request))?.pid)
    }

    /// Forgets a process that has ended; answers its exit status.
    pub fn delete_process(&self, id: &str, pid: u32) -> Result<u32, Status> {
        let request = tasks::DeleteProcessRequest { container_id: id.into(), pid };
        Ok(self.ask(self.tasks.clone().delete_process(request))?.exit_status)
    }

    /// Kills all of its processes.
    pub fn kill(&self, id: &str) -> Result<(), Status> {
        let pid_or_all = Some(tasks::kill_request::PidOrAll::All(true));
        let request = tasks::KillRequest { container_id: id.into(), signal: 9, pid_or_all };
        self.ask(self.tasks.clone().kill(request))
    }

    /// Freezes it.
    pub fn pause(&self, id: &str) -> Result<(), Status> {
        self.ask(self.tasks.clone().pause(tasks::PauseTaskRequest { container_id: id.into() }))
    }

    /// Lets it go on.
    pub fn resume(&self, id: &str) -> Result<(), Status> {
        self.ask(self.tasks.clone().resume(tasks::ResumeTaskRequest { container_id: id.into() }))
    }

    /// Where its init stands.
    pub fn phase(&self, id: &str) -> Result<Phase, Status> {
        let request = tasks::GetTaskRequest { container_id: id.into() };
        Ok(self.ask(self.tasks.clone().get(request))?.task.unwrap_or_default().status())
    }

    /// Forgets a task that has ended; answers its exit status.
    pub fn delete(&self, id: &str) -> Result<u32, Status> {
        let request = tasks::DeleteTaskRequest { container_id: id.into() };
        Ok(self.ask(self.tasks.clone().delete(request))?.exit_status)
    }

    /// What it has used so far, in the shape of 2015.
    pub fn stats(&self, id: &str) -> Result<Stats, Status> {
        let mut samples = self.ask(self.api.clone().get_stats(StatsRequest { id: id.into() }))?;
        let first = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, samples.message()).await });
        let first = first.map_err(|_| Status::deadline_exceeded(format!("no sample in {PATIENCE:?}")))??;
        first.ok_or_else(|| Status::data_loss("the samples ended before the first"))
    }

    /// How many tasks there are.
    pub fn count(&self) -> Result<usize, Status> {
        Ok(self.ask(self.tasks.clone().list(tasks::ListTasksRequest::default()))?.tasks.len())
    }

    /// Becomes a reader of what happens from now on.
    pub fn events(self) -> Result<Events, Status> {
        let stream = self.ask(self.api.clone().events(EventsRequest {}))?;
        Ok(Events { client: self, stream })
    }
}

/// Events of containers, as they happen.
pub struct Events {
    client: Client,
    stream: Streaming<Event>,
}

impl Events {
    /// The next one, if it comes within `patience`.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Event>, Status> {
        let next = async { tokio::time::timeout(patience, self.stream.message()).await };
        self.client.runtime.block_on(next).unwrap_or(Ok(None))
    }

    /// Reads on until one is as wanted.
    pub fn find(&mut self, mut wanted: impl FnMut(&Event) -> bool) -> Result<Event, Status> {
        loop {
            match self.next(PATIENCE)? {
                Some(event) if wanted(&event) => return Ok(event),
                Some(_) => {}
                None => return Err(Status::deadline_exceeded(format!("no such event in {PATIENCE:?}"))),
            }
        }
    }
}

fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.into(), value }
}
