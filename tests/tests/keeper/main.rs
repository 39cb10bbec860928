//! A keeper by its own interfaces: the task API, the Shim on both sides of the VM, streams, and events for containerd.

mod support;

use prost_types::Any;
use support::{PATIENCE, Sandbox, Shim};
use theca_proto::containerd::task::{v2, v3};
use theca_proto::containerd::v1::services::shim::*;
use theca_proto::containerd::v1::types::event::EventType;
use theca_proto::containerd::v1::types::{self, Status};
use theca_proto::theca::keeper::v1 as keeper;
use theca_tests::Bundle;
use tokio::time::timeout;
use tonic::Streaming;
use ttrpc::Code;

async fn next(events: &mut Streaming<types::Event>) -> (EventType, u32, u32) {
    let event = timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(event.id, "web");
    (event.r#type(), event.pid, event.exit_status)
}

async fn pids(shim: &mut Shim) -> Vec<u32> {
    let processes = shim.processes(ProcessesRequest::default()).await.unwrap().into_inner().processes;
    processes.into_iter().map(|process| process.pid).collect()
}

fn code<T: std::fmt::Debug>(answer: ttrpc::Result<T>) -> Code {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        other => panic!("expected a status, got {other:?}"),
    }
}

#[tokio::test]
async fn a_container_is_the_same_through_every_interface() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let sandbox = Sandbox::start(bundle.path()).await;
    let keeper_pid = sandbox.keeper.ready(keeper::ReadyRequest {}).await.unwrap().keeper_pid;
    let idle = sandbox.keeper_kib(keeper_pid);
    let mut shim = sandbox.host_shim().await;
    let error = shim.state(StateRequest {}).await.unwrap_err();
    assert_eq!(error.message(), "container hasn't been created yet");

    // Made through the Shim, seen by the task API, the keeper's own and the guest's Shim.
    let create =
        CreateRequest { id: "web".into(), bundle: bundle.path().display().to_string(), ..Default::default() };
    let init = shim.create(create).await.unwrap().into_inner().pid;
    shim.start(StartRequest {}).await.unwrap();
    let spec = br#"{"args":["sleep","999"],"env":["PATH=/bin"],"cwd":"/"}"#.to_vec();
    let spec = Some(Any { type_url: String::new(), value: spec });
    let added = shim.exec(ExecRequest { spec, ..Default::default() }).await.unwrap().into_inner().pid;
    let state = v3::StateRequest { id: "web".into(), ..Default::default() };
    let state = sandbox.task.state(state).await.unwrap();
    assert_eq!(state.status(), Status::Running);
    let older = v2::StateRequest { id: "web".into(), ..Default::default() };
    let older = sandbox.older_task().state(older).await.unwrap();
    assert_eq!((older.status(), older.pid), (state.status(), state.pid));
    let known = sandbox.keeper.processes(keeper::ProcessesRequest { id: "web".into() }).await.unwrap();
    let told: Vec<_> = known.processes.iter().map(|process| (process.pid, process.args.join(" "))).collect();
    assert_eq!(told, [(init, "sleep 1000".into()), (added, "sleep 999".into())]);
    let mut guest = sandbox.guest_shim().await;
    assert_eq!((pids(&mut shim).await, pids(&mut guest).await), (vec![init, added], vec![init, added]));

    // Its end is told on both sides, in order.
    shim.kill(KillRequest { signal: 15, all: false, pid: added }).await.unwrap();
    for side in [&mut shim, &mut guest] {
        let mut events = side.events(EventsRequest {}).await.unwrap().into_inner();
        assert_eq!(next(&mut events).await, (EventType::Create, init, 0));
        assert_eq!(next(&mut events).await, (EventType::Start, init, 0));
        assert_eq!(next(&mut events).await, (EventType::ExecAdded, added, 0));
        assert_eq!(next(&mut events).await, (EventType::Exit, added, 143));
    }
    guest.kill(KillRequest { signal: 9, all: true, pid: 0 }).await.unwrap();
    let wait = v3::WaitRequest { id: "web".into(), ..Default::default() };
    assert_eq!(sandbox.task.wait(wait).await.unwrap().exit_status, 137);
    assert_eq!(shim.delete(DeleteRequest { pid: init }).await.unwrap().into_inner().exit_status, 137);
    let gone = v3::StateRequest { id: "web".into(), ..Default::default() };
    assert_eq!(code(sandbox.task.state(gone).await), Code::NOT_FOUND);

    let after = sandbox.keeper_kib(keeper_pid);
    eprintln!("keeper: {idle} KiB idle, {after} KiB with an endpoint, two clients and a container's life");
    sandbox.wait_for_topic("/tasks/delete");
    let expected = ["create", "start", "exec-added", "exec-started", "exit", "exit", "delete"];
    assert_eq!(sandbox.forwarded.topics(), expected.map(|topic| format!("/tasks/{topic}")));
    let page = sandbox.keeper.events(keeper::EventsRequest { from: 1, wait_ms: 0 }).await.unwrap();
    assert_eq!((page.events.len() as u64, page.next, page.lost), (8, 9, 0), "{page:?}");
    assert!(matches!(page.events[0].what, Some(keeper::event::What::VmReady(_))));

    // The sandbox is held: no Shutdown but the keeper's own ends it.
    sandbox.task.shutdown(v3::ShutdownRequest { id: "web".into(), now: false }).await.unwrap();
    sandbox.keeper.ping(keeper::PingRequest {}).await.unwrap();
    sandbox.keeper.shutdown(keeper::ShutdownRequest { timeout_ms: 100 }).await.unwrap();
    assert!(!sandbox.folder.exists());
}

#[tokio::test]
async fn a_paused_vm_stands_still_and_goes_on() {
    let bundle = Bundle::new(&["sh", "-c", "while :; do :; done"]);
    let sandbox = Sandbox::start(bundle.path()).await;
    sandbox.keeper.ready(keeper::ReadyRequest {}).await.unwrap();
    sandbox.keeper.pause(keeper::PauseRequest {}).await.unwrap();
    assert!(sandbox.keeper.info(keeper::InfoRequest {}).await.unwrap().paused);
    assert_eq!(code(sandbox.keeper.ping(keeper::PingRequest {}).await), Code::FAILED_PRECONDITION);
    let create = v3::CreateTaskRequest {
        id: "web".into(),
        bundle: bundle.path().display().to_string(),
        ..Default::default()
    };
    assert_eq!(code(sandbox.task.create(create.clone()).await), Code::FAILED_PRECONDITION);
    sandbox.keeper.resume(keeper::ResumeRequest {}).await.unwrap();
    sandbox.keeper.ping(keeper::PingRequest {}).await.unwrap();
    sandbox.task.create(create).await.unwrap();
    sandbox.task.start(v3::StartRequest { id: "web".into(), ..Default::default() }).await.unwrap();
    let metrics = sandbox.keeper.metrics(keeper::MetricsRequest {}).await.unwrap();
    assert!(metrics.files.contains_key("memory.current"), "{:?}", metrics.files.keys());
    assert!(metrics.guest_used_bytes > 0 && metrics.vmm_resident_bytes > 0 && metrics.vmm_cpu_us > 0);
    assert!(metrics.vm.unwrap().exits > 0);
    sandbox.keeper.shutdown(keeper::ShutdownRequest { timeout_ms: 0 }).await.unwrap();
}

#[tokio::test]
async fn input_and_output_by_name_survive_a_client_that_is_lost() {
    let bundle = Bundle::new(&["cat"]);
    let sandbox = Sandbox::start(bundle.path()).await;
    let mut stdin = sandbox.stream("web-stdin").await;
    let mut lost = sandbox.stream("web-stdout").await;
    let uri = |name: &str| format!("ttrpc+unix:///keeper.sock?streaming_id=web-{name}");
    let create = v3::CreateTaskRequest {
        id: "web".into(),
        bundle: bundle.path().display().to_string(),
        stdin: uri("stdin"),
        stdout: uri("stdout"),
        ..Default::default()
    };
    sandbox.task.create(create).await.unwrap();
    sandbox.task.start(v3::StartRequest { id: "web".into(), ..Default::default() }).await.unwrap();
    let text: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let writing = async {
        stdin.write(&text).await;
        stdin.close().await;
    };
    let reading = async {
        let mut read = lost.read(1000).await;
        // The first client does not come back; another goes on where it was.
        let mut again = sandbox.stream("web-stdout").await;
        read.extend(again.read(text.len() - 1000).await);
        (read, again)
    };
    let ((), (read, mut stdout)) = tokio::join!(writing, reading);
    assert!(read == text, "bytes were lost or changed");
    let close = v3::CloseIoRequest { id: "web".into(), stdin: true, ..Default::default() };
    sandbox.task.close_io(close).await.unwrap();
    let wait = v3::WaitRequest { id: "web".into(), ..Default::default() };
    assert_eq!(sandbox.task.wait(wait).await.unwrap().exit_status, 0);
    stdout.give_room(1).await;
    assert!(matches!(stdout.receive().await, Err(ttrpc::Error::Eof)), "the output has ended");
    sandbox.keeper.shutdown(keeper::ShutdownRequest { timeout_ms: 0 }).await.unwrap();
}
