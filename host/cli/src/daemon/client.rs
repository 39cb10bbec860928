//! A connection to thecad.

use std::collections::BTreeSet;
use std::path::Path;

use http::Uri;
use theca_proto::containerd::services::containers::v1 as containers;
use theca_proto::containerd::services::sandbox::v1 as sandbox;
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::containerd::types::{Metric, Sandbox};
use theca_proto::containerd::v1::types::Mount;
use theca_proto::grpc_channel::{self, Channel};
use theca_proto::types::{Event, EventsRequest};
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};

use super::DaemonError;

const NAMESPACE: &str = "containerd-namespace";

type Named = InterceptedService<Channel, InNamespace>;

/// thecad, asked about one namespace. Clones share the connection.
#[derive(Clone)]
pub struct Daemon {
    store: sandbox::store_client::StoreClient<Named>,
    controller: sandbox::controller_client::ControllerClient<Named>,
    containers: containers::containers_client::ContainersClient<Named>,
    tasks: tasks::tasks_client::TasksClient<Named>,
    api: theca_proto::types::api_client::ApiClient<Named>,
}

impl Daemon {
    /// Connects to thecad's main socket.
    pub async fn connect(socket: &Path, namespace: &str) -> anyhow::Result<Self> {
        let named = InNamespace { header: header(namespace)? };
        let stream =
            UnixStream::connect(socket).await.map_err(|error| DaemonError::connecting(socket, error))?;
        let channel = grpc_channel::open(stream)
            .await
            .map_err(|source| DaemonError::Handshake { socket: socket.to_owned(), source })?;
        let channel = InterceptedService::new(channel, named);
        // No host is meant: the socket is it.
        let origin = Uri::from_static("http://thecad");
        Ok(Self {
            store: sandbox::store_client::StoreClient::with_origin(channel.clone(), origin.clone()),
            controller: sandbox::controller_client::ControllerClient::with_origin(
                channel.clone(),
                origin.clone(),
            ),
            containers: containers::containers_client::ContainersClient::with_origin(
                channel.clone(),
                origin.clone(),
            ),
            tasks: tasks::tasks_client::TasksClient::with_origin(channel.clone(), origin.clone()),
            api: theca_proto::types::api_client::ApiClient::with_origin(channel, origin),
        })
    }

    /// Keeps a sandbox's record.
    pub async fn keep_record(&self, record: Sandbox) -> Result<(), DaemonError> {
        let request = sandbox::StoreCreateRequest { sandbox: Some(record) };
        told("keep the sandbox's record", self.store.clone().create(request).await).map(drop)
    }

    /// Forgets a sandbox's record.
    pub async fn forget_record(&self, id: &str) -> Result<(), DaemonError> {
        let request = sandbox::StoreDeleteRequest { sandbox_id: id.into() };
        told("forget the sandbox's record", self.store.clone().delete(request).await).map(drop)
    }

    /// A sandbox's record.
    pub async fn record(&self, id: &str) -> Result<Sandbox, DaemonError> {
        let request = sandbox::StoreGetRequest { sandbox_id: id.into() };
        let response = told("find the sandbox", self.store.clone().get(request).await)?;
        Ok(response.sandbox.unwrap_or_default())
    }

    /// Records that match any of `filters`, all if there is none.
    pub async fn records(&self, filters: Vec<String>) -> Result<Vec<Sandbox>, DaemonError> {
        let request = sandbox::StoreListRequest { filters };
        Ok(told("list sandboxes", self.store.clone().list(request).await)?.list)
    }

    /// Makes a sandbox without running it.
    pub async fn create(&self, record: Sandbox) -> Result<(), DaemonError> {
        let request = sandbox::ControllerCreateRequest {
            sandbox_id: record.sandbox_id.clone(),
            options: record.runtime.as_ref().and_then(|runtime| runtime.options.clone()),
            sandbox: Some(record),
            ..Default::default()
        };
        told("create the sandbox", self.controller.clone().create(request).await).map(drop)
    }

    /// Runs it.
    pub async fn start(&self, id: &str) -> Result<(), DaemonError> {
        let request = sandbox::ControllerStartRequest { sandbox_id: id.into(), ..Default::default() };
        told("start the sandbox", self.controller.clone().start(request).await).map(drop)
    }

    /// Ends it, by force after the timeout; 0 stands for thecad's own.
    pub async fn stop(&self, id: &str, timeout_secs: u32) -> Result<(), DaemonError> {
        let sandbox_id = id.to_owned();
        let request = sandbox::ControllerStopRequest { sandbox_id, timeout_secs, ..Default::default() };
        told("stop the sandbox", self.controller.clone().stop(request).await).map(drop)
    }

    /// Ends it if need be, and forgets it.
    pub async fn shutdown(&self, id: &str) -> Result<(), DaemonError> {
        let request = sandbox::ControllerShutdownRequest { sandbox_id: id.into(), ..Default::default() };
        told("remove the sandbox", self.controller.clone().shutdown(request).await).map(drop)
    }

    /// How it stands.
    pub async fn status(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<sandbox::ControllerStatusResponse, DaemonError> {
        let sandbox_id = id.to_owned();
        let request = sandbox::ControllerStatusRequest { sandbox_id, verbose, ..Default::default() };
        told("tell how the sandbox stands", self.controller.clone().status(request).await)
    }

    /// Its counters.
    pub async fn metrics(&self, id: &str) -> Result<Metric, DaemonError> {
        let request = sandbox::ControllerMetricsRequest { sandbox_id: id.into(), ..Default::default() };
        let response = told("count what the sandbox uses", self.controller.clone().metrics(request).await)?;
        Ok(response.metrics.unwrap_or_default())
    }

    /// Keeps a container's record, makes it with `root`, and starts it. What does not start is not there afterwards.
    pub async fn run(&self, container: containers::Container, root: Mount) -> Result<(), DaemonError> {
        let id = container.id.clone();
        let request = containers::CreateContainerRequest { container: Some(container) };
        told("keep the container's record", self.containers.clone().create(request).await)?;
        let started = self.make_and_start(&id, root).await;
        if started.is_err() {
            // The first failure is the one to tell.
            let request = tasks::DeleteTaskRequest { container_id: id.clone() };
            let _ = self.tasks.clone().delete(request).await;
            let _ = self.forget_container(id).await;
        }
        started
    }

    async fn make_and_start(&self, id: &str, root: Mount) -> Result<(), DaemonError> {
        let container_id = id.to_owned();
        let request = tasks::CreateTaskRequest { container_id, rootfs: vec![root], ..Default::default() };
        told("make the container", self.tasks.clone().create(request).await)?;
        let request = tasks::StartTaskRequest { container_id: id.to_owned() };
        told("start the container", self.tasks.clone().start(request).await).map(drop)
    }

    /// Forgets the records of containers that a filter finds.
    pub async fn forget_containers(&self, filter: &str) -> Result<(), DaemonError> {
        for id in self.of_containers(vec![filter.to_owned()], |container| container.id).await? {
            self.forget_container(id).await?;
        }
        Ok(())
    }

    /// Ids of sandboxes that containers are in: what their records name, and their own, for one that names none has a sandbox of
    /// its own. Most of the latter are no sandbox's.
    pub async fn ids_by_containers(&self) -> Result<BTreeSet<String>, DaemonError> {
        let named = self.of_containers(Vec::new(), |container| container.sandbox).await?;
        let request = tasks::ListTasksRequest::default();
        let tasks = told("list tasks", self.tasks.clone().list(request).await)?.tasks;
        let own = tasks
            .into_iter()
            .map(|task| if task.container_id.is_empty() { task.id } else { task.container_id });
        Ok(named.into_iter().chain(own).filter(|id| !id.is_empty()).collect())
    }

    /// What is wanted of every container that the filters find. One record at a time: all together can be more than a message
    /// may hold.
    async fn of_containers(
        &self,
        filters: Vec<String>,
        wanted: impl Fn(containers::Container) -> String,
    ) -> Result<Vec<String>, DaemonError> {
        const ASKED: &str = "list containers";
        let request = containers::ListContainersRequest { filters };
        let mut stream = told(ASKED, self.containers.clone().list_stream(request).await)?;
        let mut found = Vec::new();
        while let Some(next) =
            stream.message().await.map_err(|status| DaemonError::calling(ASKED, &status))?
        {
            found.extend(next.container.map(&wanted));
        }
        Ok(found)
    }

    async fn forget_container(&self, id: String) -> Result<(), DaemonError> {
        let request = containers::DeleteContainerRequest { id };
        told("forget the container's record", self.containers.clone().delete(request).await).map(drop)
    }

    /// What happens to containers from now on.
    pub async fn events(&self) -> Result<Events, DaemonError> {
        let stream = told("tell events", self.api.clone().events(EventsRequest {}).await)?;
        Ok(Events { stream })
    }
}

/// Events as they happen.
pub struct Events {
    stream: Streaming<Event>,
}

impl Events {
    /// The next one; `None` when thecad has no more to tell.
    pub async fn next(&mut self) -> Result<Option<Event>, DaemonError> {
        self.stream.message().await.map_err(|status| DaemonError::calling("tell events", &status))
    }
}

/// Names the namespace in every call.
#[derive(Clone)]
struct InNamespace {
    header: MetadataValue<Ascii>,
}

impl Interceptor for InNamespace {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(NAMESPACE, self.header.clone());
        Ok(request)
    }
}

/// What a namespace may be called is thecad's to say, as far as a header can hold it.
fn header(namespace: &str) -> anyhow::Result<MetadataValue<Ascii>> {
    namespace
        .parse()
        .map_err(|_| anyhow::anyhow!("namespace {namespace:?} is not valid: use letters and digits"))
}

fn told<T>(asked: &'static str, answer: Result<Response<T>, Status>) -> Result<T, DaemonError> {
    answer.map(Response::into_inner).map_err(|status| DaemonError::calling(asked, &status))
}

#[cfg(test)]
#[path = "client_test.rs"]
mod tests;
