//! The endpoint of a container in a sandbox without a VM: everything but what only a guest can do.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use theca_controller::install::Installation;
use theca_controller::run_dir::RunDir;
use theca_controller::sandbox::history::{Happening, KEPT, Subject};
use theca_controller::sandbox::{SandboxOptions, Setup, Timeline};
use theca_controller::task::stdio::IoRequest;
use theca_proto::containerd::v1::services::shim::shim_client::ShimClient;
use theca_proto::containerd::v1::types::event::EventType;
use theca_proto::grpc_channel::{self, Channel};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Code;

use super::endpoint::Endpoints;
use super::*;
use crate::agent::GrpcConnector;

const PATIENCE: Duration = Duration::from_secs(10);

struct Scene {
    sandbox: Sandbox,
    endpoints: Endpoints,
    _root: tempfile::TempDir,
}

impl Scene {
    fn begin() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = RunDir::new(root.path(), &"tests".parse().unwrap(), &"pod".parse().unwrap());
        folder.create().unwrap();
        let (sandbox, _) = Sandbox::begin(Setup {
            folder: folder.clone(),
            bundle: root.path().into(),
            options: SandboxOptions::default(),
            installation: Installation::own(),
            scratch: root.path().join("scratch"),
            connector: Arc::new(GrpcConnector),
            timeline: Timeline::begin(),
        });
        let endpoints = Endpoints::new(sandbox.clone(), folder);
        Self { sandbox, endpoints, _root: root }
    }

    async fn shim(&self) -> ShimClient<Channel> {
        let socket = self.endpoints.open("web".parse().unwrap()).unwrap();
        let channel = grpc_channel::open(UnixStream::connect(socket).await.unwrap()).await.unwrap();
        ShimClient::with_origin(channel, Uri::from_static("http://shim"))
    }

    /// Something happens to the container `id`.
    fn tell(&self, id: &str, guest_pid: u32, happening: Happening) {
        let container = Some(id.parse().unwrap());
        self.sandbox.history().record(Subject { container, guest_pid, ..Subject::default() }, happening);
    }
}

async fn next(events: &mut tonic::Streaming<types::Event>) -> (EventType, u32, u32) {
    let event = timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.id, "web");
    (event.r#type(), event.pid, event.exit_status)
}

#[tokio::test]
async fn before_create_the_container_has_not_been_created() {
    let scene = Scene::begin();
    let mut shim = scene.shim().await;
    let refused = [
        shim.state(StateRequest {}).await.unwrap_err(),
        shim.start(StartRequest {}).await.unwrap_err(),
        shim.kill(KillRequest { signal: 9, all: false, pid: 0 }).await.unwrap_err(),
        shim.delete(DeleteRequest { pid: 7 }).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.message(), "container hasn't been created yet");
    }
}

#[tokio::test]
async fn what_cannot_be_created_is_refused_with_its_code() {
    let scene = Scene::begin();
    let mut shim = scene.shim().await;
    let mut code = async |request| shim.create(request).await.unwrap_err().code();
    let bundle = "/nonexistent".to_owned();
    assert_eq!(code(CreateRequest { id: "web".into(), ..Default::default() }).await, Code::InvalidArgument);
    let other = CreateRequest { id: "other".into(), bundle: bundle.clone(), ..Default::default() };
    assert_eq!(code(other).await, Code::InvalidArgument);
    let restored =
        CreateRequest { bundle: bundle.clone(), checkpoint: "before".into(), ..Default::default() };
    assert_eq!(code(restored).await, Code::Unimplemented);
    assert_eq!(code(CreateRequest { bundle, ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(shim.checkpoint(CheckpointRequest::default()).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_in_grpcs_words() {
    let scene = Scene::begin();
    let mut shim = scene.shim().await;
    let create = |length| CreateRequest { bundle: "/".repeat(length), ..Default::default() };
    let refused = shim.create(create(4 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "the message is too large: at most 4 MiB are taken");
    assert_eq!(shim.create(create((4 << 20) - 64)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn exit_ends_the_endpoint_and_another_can_be_opened() {
    let scene = Scene::begin();
    let mut shim = scene.shim().await;
    let id: ContainerId = "web".parse().unwrap();
    let socket = scene.endpoints.open(id.clone()).unwrap();
    assert_eq!(scene.endpoints.open(id.clone()).unwrap(), socket, "the same as long as it serves");
    shim.exit(ExitRequest {}).await.unwrap();
    let gone = async {
        while socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    assert_ne!(scene.endpoints.open(id).unwrap(), socket);
}

#[test]
fn a_pid_that_was_given_twice_names_the_process_that_lives() {
    let process = |exec: &str, phase, ended: Option<u64>| ProcessDetail {
        exec: Some(exec.parse().unwrap()),
        guest_pid: 7,
        phase,
        exit: ended.map(|at| Exit { status: 0, at: SystemTime::UNIX_EPOCH + Duration::from_secs(at) }),
        io: IoRequest::default(),
        spec: Vec::new(),
    };
    let (first, last) = (process("b", Phase::Stopped, Some(1)), process("a", Phase::Stopped, Some(2)));
    let living = process("c", Phase::Running, None);
    let name = |processes: &[&ProcessDetail]| {
        let all = processes.iter().map(|process| (*process).clone()).collect();
        named(all, 7).unwrap().exec.unwrap().to_string()
    };
    assert_eq!(name(&[&first, &living, &last]), "c");
    assert_eq!(name(&[&last, &first]), "a");
    assert!(named(vec![living], 8).is_none());
}

#[test]
fn an_endpoint_that_is_opened_again_gives_no_name_twice() {
    let names: std::collections::BTreeSet<_> = (0..100).map(|_| new_exec().unwrap().to_string()).collect();
    assert_eq!(names.len(), 100);
}

#[tokio::test]
async fn events_since_the_creation_come_to_the_one_who_asks_and_the_last_one_again_to_the_next() {
    let scene = Scene::begin();
    scene.tell("web", 100, Happening::Created(Arc::default()));
    scene.tell("other", 200, Happening::Created(Arc::default()));
    let mut shim = scene.shim().await;
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (EventType::Create, 100, 0));
    scene.tell("web", 100, Happening::Started);
    scene.tell("web", 100, Happening::Paused);
    scene.tell("web", 100, Happening::Exited(Exit { status: 7, at: SystemTime::now() }));
    assert_eq!(next(&mut events).await, (EventType::Start, 100, 0));
    assert_eq!(next(&mut events).await, (EventType::Exit, 100, 7));

    let mut second = shim.events(EventsRequest {}).await.unwrap().into_inner();
    let superseded = timeout(PATIENCE, events.message()).await.unwrap().unwrap_err();
    assert_eq!(superseded.code(), Code::Aborted);
    let mut again = next(&mut second).await;
    while again.0 != EventType::Exit {
        again = next(&mut second).await;
    }
    assert_eq!(again, (EventType::Exit, 100, 7));
}

#[tokio::test]
async fn a_consumer_that_reads_too_slowly_is_told_so_and_the_next_goes_on_from_what_is_there() {
    let scene = Scene::begin();
    scene.tell("web", 100, Happening::Created(Arc::default()));
    let mut shim = scene.shim().await;
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (EventType::Create, 100, 0));
    for _ in 0..KEPT {
        scene.tell("web", 100, Happening::OutOfMemory);
    }
    scene.tell("web", 100, Happening::Started);
    let lost = timeout(PATIENCE, events.message()).await.unwrap().unwrap_err();
    assert_eq!(lost.code(), Code::DataLoss);
    assert!(lost.message().starts_with("1 events were dropped"), "{lost}");

    let mut second = shim.events(EventsRequest {}).await.unwrap().into_inner();
    let mut told = vec![next(&mut second).await.0];
    while told.last() != Some(&EventType::Start) {
        told.push(next(&mut second).await.0);
    }
    assert_eq!(told[0], EventType::Create, "what the first was given last");
    assert_eq!(told.len(), KEPT + 1);
}

#[tokio::test]
async fn what_others_of_the_sandbox_do_is_no_loss_to_a_consumer_that_is_there() {
    let scene = Scene::begin();
    scene.tell("web", 100, Happening::Created(Arc::default()));
    let mut shim = scene.shim().await;
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (EventType::Create, 100, 0));
    for _ in 0..2 * KEPT / 64 {
        (0..64).for_each(|_| scene.tell("other", 200, Happening::OutOfMemory));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut second = shim.events(EventsRequest {}).await.unwrap().into_inner();
    scene.tell("web", 100, Happening::Started);
    assert_eq!(next(&mut second).await, (EventType::Create, 100, 0), "given last, and dropped since");
    assert_eq!(next(&mut second).await, (EventType::Start, 100, 0));
}
