//! The Shim of one container, beside Tasks: what one does the other sees.

mod support;

use std::time::Duration;

use prost_types::Any;
use support::{Client, Container, Guest};
use theca_proto::containerd::services::tasks::v1::GetTaskRequest;
use theca_proto::containerd::v1::services::shim::shim_client::ShimClient;
use theca_proto::containerd::v1::services::shim::*;
use theca_proto::containerd::v1::types::event::EventType;
use theca_proto::containerd::v1::types::{self, Status};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Streaming};

type Addressed = fn(Request<()>) -> Result<Request<()>, tonic::Status>;
type Shim = ShimClient<InterceptedService<Channel, Addressed>>;

/// The Shim of the container `web`.
fn shim(client: &Client) -> Shim {
    let address: Addressed = |mut request| {
        request.metadata_mut().insert(theca_proto::SHIM_CONTAINER, "web".parse().unwrap());
        Ok(request)
    };
    ShimClient::with_interceptor(client.channel.clone(), address)
}

async fn create(client: &mut Client, shim: &mut Shim, container: &Container) -> u32 {
    client.prepare("web", container).await.unwrap();
    let created = shim.create(CreateRequest { id: "web".into(), ..Default::default() }).await;
    created.unwrap().into_inner().pid
}

async fn exec(shim: &mut Shim, script: &str) -> u32 {
    let spec = format!(r#"{{"args":["sh","-c","{script}"],"env":["PATH=/bin"],"cwd":"/"}}"#);
    let spec = Some(Any { type_url: String::new(), value: spec.into() });
    shim.exec(ExecRequest { spec, ..Default::default() }).await.unwrap().into_inner().pid
}

async fn next(events: &mut Streaming<types::Event>) -> (EventType, u32, u32) {
    let event =
        tokio::time::timeout(Duration::from_secs(20), events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.id, "web");
    (event.r#type(), event.pid, event.exit_status)
}

#[tokio::test]
async fn a_container_through_its_shim_is_the_one_that_tasks_shows() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let mut shim = shim(&client);
    let error = shim.state(StateRequest {}).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "nothing was prepared: {error}");
    let init = create(&mut client, &mut shim, &Container::new(["sleep", "1000"])).await;
    let task =
        client.tasks.get(GetTaskRequest { container_id: "web".into() }).await.unwrap().into_inner().task;
    assert_eq!(task.unwrap().pid, init);

    shim.start(StartRequest {}).await.unwrap();
    let added = exec(&mut shim, "exit 4").await;
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (EventType::Create, init, 0));
    assert_eq!(next(&mut events).await, (EventType::Start, init, 0));
    assert_eq!(next(&mut events).await, (EventType::ExecAdded, added, 0));
    assert_eq!(next(&mut events).await, (EventType::Exit, added, 4));

    shim.pause(PauseRequest {}).await.unwrap();
    assert_eq!(shim.state(StateRequest {}).await.unwrap().into_inner().status(), Status::Paused);
    shim.resume(ResumeRequest {}).await.unwrap();
    let state = shim.state(StateRequest {}).await.unwrap().into_inner();
    assert_eq!((state.id.as_str(), state.pid, state.status()), ("web", init, Status::Running));
    let pids: Vec<_> = state.processes.iter().map(|process| (process.pid, process.exit_status)).collect();
    assert_eq!(pids, [(init, 0), (added, 4)]);
    assert_eq!(shim.delete(DeleteRequest { pid: added }).await.unwrap().into_inner().exit_status, 4);

    shim.pty(PtyRequest { pid: init, width: 80, height: 24 }).await.unwrap();
    let lost = shim.pty(PtyRequest { pid: 999_999, width: 80, height: 24 }).await.unwrap_err();
    assert_eq!((lost.code(), lost.message()), (Code::NotFound, "process does not exist 999999"));
    let lost = shim.kill(KillRequest { signal: 15, all: false, pid: 999_999 }).await.unwrap_err();
    assert_eq!((lost.code(), lost.message()), (Code::NotFound, "process 999999 does not exist in container"));

    // An unknown pid is init, which still runs.
    let other = exec(&mut shim, "sleep 1000").await;
    assert_eq!(shim.delete(DeleteRequest { pid: 999_999 }).await.unwrap().into_inner().exit_status, 137);
    assert_eq!(next(&mut events).await, (EventType::ExecAdded, other, 0));
    assert_eq!(next(&mut events).await, (EventType::Exit, other, 137));
    assert_eq!(next(&mut events).await, (EventType::Exit, init, 137));
    let gone = shim.state(StateRequest {}).await.unwrap_err();
    assert_eq!(
        (gone.code(), gone.message()),
        (Code::FailedPrecondition, "container hasn't been created yet")
    );
    shim.exit(ExitRequest {}).await.unwrap();
    assert_eq!(guest.mounts(), [""; 0]);
}

#[tokio::test]
async fn an_event_that_its_consumer_may_not_have_had_comes_again() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let mut shim = shim(&client);
    let init = create(&mut client, &mut shim, &Container::new(["sleep", "1000"])).await;
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    assert_eq!(next(&mut events).await, (EventType::Create, init, 0));
    drop(events);
    shim.start(StartRequest {}).await.unwrap();
    let mut events = shim.events(EventsRequest {}).await.unwrap().into_inner();
    let mut seen = vec![next(&mut events).await];
    if seen[0].0 == EventType::Create {
        seen.push(next(&mut events).await);
    }
    assert_eq!(seen.last(), Some(&(EventType::Start, init, 0)));

    let mut second = shim.events(EventsRequest {}).await.unwrap().into_inner();
    let ended = loop {
        match events.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended.unwrap_err().code(), Code::Aborted);
    shim.kill(KillRequest { signal: 9, all: true, pid: 0 }).await.unwrap();
    let mut last = next(&mut second).await;
    if last.0 == EventType::Start {
        last = next(&mut second).await;
    }
    assert_eq!(last, (EventType::Exit, init, 137));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_code() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let mut shim = shim(&client);
    let mut lost = ShimClient::new(client.channel.clone());
    assert_eq!(lost.state(StateRequest {}).await.unwrap_err().code(), Code::InvalidArgument);
    client.prepare("web", &Container::new(["sleep", "1000"])).await.unwrap();
    let other = CreateRequest { id: "other".into(), ..Default::default() };
    assert_eq!(shim.create(other).await.unwrap_err().code(), Code::InvalidArgument);
    let restored = CreateRequest { id: "web".into(), checkpoint: "x".into(), ..Default::default() };
    assert_eq!(shim.create(restored).await.unwrap_err().code(), Code::Unimplemented);
    let web = CreateRequest { id: "web".into(), ..Default::default() };
    shim.create(web.clone()).await.unwrap();
    assert_eq!(shim.create(web).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(shim.exec(ExecRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(shim.exit(ExitRequest {}).await.unwrap_err().code(), Code::FailedPrecondition);
    let none = KillRequest { signal: 999, all: false, pid: 0 };
    assert_eq!(shim.kill(none).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(shim.checkpoint(CheckpointRequest::default()).await.unwrap_err().code(), Code::Unimplemented);
}
