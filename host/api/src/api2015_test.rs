use std::time::Duration;

use futures_util::StreamExt;
use theca_controller::node::testing::Bench;
use theca_proto::types::{Checkpoint, User};
use tonic::Code;

use super::*;

/// The interface in front of a machine whose keepers are values.
struct Client {
    bench: Bench,
    api: Api2015,
}

impl Client {
    async fn new() -> Self {
        let bench = Bench::new().await;
        Self { api: Api2015::new(&bench.node), bench }
    }

    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", "tests".parse().unwrap());
        request
    }

    fn creation(&self, id: &str) -> CreateContainerRequest {
        let Source::Bundle(bundle) = self.bench.task(id, None).source else { unreachable!() };
        CreateContainerRequest {
            id: id.into(),
            bundle_path: bundle.display().to_string(),
            ..Default::default()
        }
    }

    async fn create(&self, id: &str) -> Result<u32, Status> {
        Ok(self.api.create_container(self.call(self.creation(id))).await?.into_inner().pid)
    }

    async fn add(&self, id: &str, args: &[&str]) -> Result<u32, Status> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let request = AddProcessRequest { id: id.into(), args, ..Default::default() };
        Ok(self.api.add_process(self.call(request)).await?.into_inner().pid)
    }

    async fn signal(&self, id: &str, pid: u32) -> Result<(), Status> {
        self.api.signal(self.call(SignalRequest { id: id.into(), pid, signal: 9 })).await.map(drop)
    }

    async fn update(&self, id: &str, status: &str) -> Result<(), Status> {
        let request = UpdateContainerRequest { id: id.into(), status: status.into(), ..Default::default() };
        self.api.update_container(self.call(request)).await.map(drop)
    }

    async fn state(&self) -> StateResponse {
        self.api.state(self.call(StateRequest {})).await.unwrap().into_inner()
    }

    /// Waits until `wanted` holds of the containers' number.
    async fn until(&self, containers: usize) {
        for _ in 0..200 {
            if self.state().await.containers.len() == containers {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are still {:?}", self.state().await.containers);
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
    assert!(refusal.message().starts_with(words), "{refusal}");
}

#[tokio::test]
async fn a_container_runs_from_its_creation_and_its_end_deletes_it() {
    let client = Client::new().await;
    let mut events = client.api.events(client.call(EventsRequest {})).await.unwrap().into_inner();
    let init = client.create("web").await.unwrap();
    let added = client.add("web", &["sh"]).await.unwrap();
    let state = client.state().await;
    assert_eq!((state.containers[0].id.as_str(), state.containers[0].status.as_str()), ("web", "running"));
    assert_eq!(state.containers[0].processes.len(), 2);
    assert!(state.machine.unwrap().cpus > 0);
    client.update("web", "paused").await.unwrap();
    assert_eq!(client.state().await.containers[0].status, "paused");
    client.update("web", "running").await.unwrap();
    client.signal("web", 0).await.unwrap();
    client.until(0).await;
    let mut told = Vec::new();
    for _ in 0..6 {
        let event = events.next().await.unwrap().unwrap();
        told.push((event.r#type, event.pid));
    }
    let told: Vec<_> = told.iter().map(|(kind, pid)| (kind.as_str(), *pid)).collect();
    assert_eq!(
        told,
        [
            ("start-container", init),
            ("start-process", added),
            ("pause", 0),
            ("resume", 0),
            ("exit", added),
            ("exit", init)
        ]
    );
}

#[tokio::test]
async fn a_container_that_does_not_start_is_not_there_afterwards() {
    let client = Client::new().await;
    client.bench.keepers.broken.lock().unwrap().insert("start");
    let mut events = client.api.events(client.call(EventsRequest {})).await.unwrap().into_inner();
    refused(client.create("web").await, Code::Internal, "it is broken");
    assert_eq!(client.state().await.containers, []);
    client.bench.keepers.broken.lock().unwrap().clear();
    client.create("web").await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(
        (first.r#type.as_str(), first.id.as_str()),
        ("start-container", "web"),
        "a failed start is no event"
    );
}

#[tokio::test]
async fn a_container_that_did_not_start_goes_as_soon_as_it_can() {
    let client = Client::new().await;
    client.bench.keepers.broken.lock().unwrap().extend(["start", "delete"]);
    refused(client.create("web").await, Code::Internal, "it is broken");
    assert_eq!(client.state().await.containers.len(), 1);
    client.bench.keeper("web").works_again();
    client.until(0).await;
}

#[tokio::test]
async fn an_added_process_goes_with_its_end_as_nobody_can_delete_it() {
    let client = Client::new().await;
    client.create("web").await.unwrap();
    let pid = client.add("web", &["true"]).await.unwrap();
    let processes = async || client.state().await.containers[0].processes.len();
    assert_eq!(processes().await, 2);
    client.signal("web", pid).await.unwrap();
    assert_eq!(processes().await, 1);
    refused(client.signal("web", pid).await, Code::NotFound, "process not found for container");
}

#[tokio::test]
async fn the_end_of_what_never_started_is_no_event_whenever_one_listens() {
    let client = Client::new().await;
    let (node, namespace) = (&client.bench.node, &client.bench.namespace);
    node.create_task(namespace, client.bench.task("waiting", None)).await.unwrap();
    let mut events = client.api.events(client.call(EventsRequest {})).await.unwrap().into_inner();
    node.delete_task(namespace, &"waiting".parse().unwrap(), true).await.unwrap();
    client.create("web").await.unwrap();
    client.signal("web", 0).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let event = events.next().await.unwrap().unwrap();
        told.push((event.r#type, event.id));
    }
    let told: Vec<_> = told.iter().map(|(kind, id)| (kind.as_str(), id.as_str())).collect();
    assert_eq!(told, [("start-container", "web"), ("exit", "web")]);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_in_the_words_of_the_time() {
    let client = Client::new().await;
    refused(client.signal("web", 0).await, Code::NotFound, "container not found");
    refused(client.add("web", &["sh"]).await, Code::NotFound, "container not found");
    refused(client.update("web", "paused").await, Code::NotFound, "container not found");
    let stats = client.api.get_stats(client.call(StatsRequest { id: "web".into() })).await.map(drop);
    refused(stats, Code::NotFound, "container not found");
    client.create("web").await.unwrap();
    refused(client.signal("web", 7777).await, Code::NotFound, "process not found for container");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let client = Client::new().await;
    for (id, words) in [("", "container id cannot be empty"), ("../web", "container id")] {
        let request = CreateContainerRequest { id: id.into(), ..client.creation("web") };
        refused(client.api.create_container(client.call(request)).await, Code::InvalidArgument, words);
    }
    let nowhere = CreateContainerRequest { id: "web".into(), ..Default::default() };
    let answer = client.api.create_container(client.call(nowhere)).await;
    refused(answer, Code::InvalidArgument, "empty bundle path");
    client.create("web").await.unwrap();
    refused(client.create("web").await, Code::AlreadyExists, "container web exists already");
    refused(client.add("web", &[]).await, Code::InvalidArgument, "the process has no arguments");
    for status in ["", "stopped"] {
        refused(client.update("web", status).await, Code::InvalidArgument, "unknown container status");
    }
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let client = Client::new().await;
    let restored = CreateContainerRequest { checkpoint: "one".into(), ..client.creation("web") };
    refused(client.api.create_container(client.call(restored)).await, Code::Unimplemented, "restoring");
    let console = CreateContainerRequest { console: "/dev/pts/0".into(), ..client.creation("web") };
    refused(client.api.create_container(client.call(console)).await, Code::Unimplemented, "a console");
    let checkpoint = Some(Checkpoint { name: "one".into(), ..Default::default() });
    let create = CreateCheckpointRequest { id: "web".into(), checkpoint };
    refused(client.api.create_checkpoint(client.call(create)).await, Code::Unimplemented, "checkpoint");
    let delete = DeleteCheckpointRequest { id: "web".into(), name: "one".into() };
    refused(client.api.delete_checkpoint(client.call(delete)).await, Code::Unimplemented, "checkpoint");
    let list = ListCheckpointRequest { id: "web".into() };
    refused(client.api.list_checkpoint(client.call(list)).await, Code::Unimplemented, "checkpoint");
}

#[tokio::test]
async fn a_process_may_have_a_user_or_none() {
    let client = Client::new().await;
    client.create("web").await.unwrap();
    for user in [None, Some(User { uid: 5, gid: 6, additional_gids: vec![7] })] {
        let request =
            AddProcessRequest { id: "web".into(), user, args: vec!["id".into()], ..Default::default() };
        assert_ne!(client.api.add_process(client.call(request)).await.unwrap().into_inner().pid, 0);
    }
}

#[test]
fn errors_have_the_texts_of_their_time_and_a_code() {
    let web: ContainerId = "web".parse().unwrap();
    let unknown = said(Error::UnknownContainer(web.clone()));
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().starts_with("container not found"), "{unknown}");
    let process = said(Error::UnknownProcess { container: web, process: ProcessName::Pid(7) });
    assert_eq!(process.code(), Code::NotFound);
    assert!(process.message().starts_with("process not found for container"), "{process}");
}
