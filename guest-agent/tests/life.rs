//! Containers from Create to Delete: states, exits, streams, signals.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Client, Container, Guest};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::*;
use theca_proto::containerd::v1::types;
use theca_proto::theca::agent::v1::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

async fn status(client: &mut Client, id: &str) -> types::Status {
    let task = client.tasks.get(GetTaskRequest { container_id: id.into() }).await.unwrap().into_inner().task;
    task.unwrap().status()
}

#[tokio::test]
async fn output_and_exit_code_come_through_and_nothing_stays() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let ended = client.run("c", &Container::sh("echo out; echo err >&2; exit 3")).await.unwrap();
    assert_eq!((ended.status, ended.stdout.as_str(), ended.stderr.as_str()), (3, "out\n", "err\n"));
    assert_eq!(guest.cgroups(), [""; 0]);
    assert_eq!(guest.mounts(), [""; 0]);
    assert_eq!(guest.children(), 0);
}

#[tokio::test]
async fn stdin_arrives_and_ends() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let (_, mut io) = client.create("c", &Container::new(["wc", "-c"])).await.unwrap();
    client.start("c").await.unwrap();
    let text = vec![b'x'; 300_000];
    io.stdin.write_all(&text).await.unwrap();
    let ended = client.finish("c", 0, io).await;
    assert_eq!((ended.status, ended.stdout.trim()), (0, "300000"));
}

#[tokio::test]
async fn close_io_ends_stdin_after_what_was_sent() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let (pid, mut io) = client.create("c", &Container::new(["cat"])).await.unwrap();
    client.start("c").await.unwrap();
    io.stdin.write_all(b"last words").await.unwrap();
    client.tasks.close_io(CloseIoRequest { container_id: "c".into(), pid, stdin: true }).await.unwrap();
    assert_eq!(client.wait("c", 0).await, 0);
    let mut text = String::new();
    io.stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last words");
}

#[tokio::test]
async fn a_signal_that_ends_a_process_is_its_exit_status() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    // Not as pid 1, which ignores what it does not handle.
    let ended = client.run("c", &Container::sh("sh -c 'kill -9 $$'; exit $?")).await.unwrap();
    assert_eq!(ended.status, 137);
    client.create_silent("d", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("d").await.unwrap();
    client.kill("d", libc::SIGKILL, PidOrAll::Pid(0)).await.unwrap();
    assert_eq!(client.wait("d", 0).await, 128 + 9);
    let error = client.kill("d", libc::SIGTERM, PidOrAll::Pid(0)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound, "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_executed_fails_create_with_its_error_number() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    for (program, errno) in [("nosuch", "2"), ("/bin/nosuch", "2"), ("/etc/plain", "13"), ("/etc", "13")] {
        let error = client.create_silent("c", &Container::new([program])).await.unwrap_err();
        let code = if errno == "2" { Code::NotFound } else { Code::PermissionDenied };
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(error.metadata().get("theca-exec-errno").unwrap(), errno, "{program}");
        assert!(error.message().contains(program), "{error}");
        client.agent.release(ReleaseRequest { container_id: "c".into() }).await.unwrap();
        assert_eq!((guest.cgroups(), guest.mounts()), (vec![], vec![]));
    }
}

#[tokio::test]
async fn states_follow_the_verbs_and_refuse_what_does_not_fit() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["sleep", "1000"])).await.unwrap();
    assert_eq!(status(&mut client, "c").await, types::Status::Created);
    let error = client.tasks.pause(PauseTaskRequest { container_id: "c".into() }).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    client.start("c").await.unwrap();
    assert_eq!(client.start("c").await.unwrap_err().code(), Code::FailedPrecondition);
    let error = client.delete("c").await.unwrap_err();
    assert_eq!(error.message(), "cannot delete container c: it is running");
    client.tasks.pause(PauseTaskRequest { container_id: "c".into() }).await.unwrap();
    assert_eq!(status(&mut client, "c").await, types::Status::Paused);
    let error = client.exec("c", "e", Client::shell("true"), false).await.err().unwrap();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    client.tasks.resume(ResumeTaskRequest { container_id: "c".into() }).await.unwrap();
    assert_eq!(status(&mut client, "c").await, types::Status::Running);
    client.kill("c", libc::SIGKILL, PidOrAll::All(true)).await.unwrap();
    assert_eq!(client.wait("c", 0).await, 137);
    assert_eq!(status(&mut client, "c").await, types::Status::Stopped);
    assert_eq!(client.delete("c").await.unwrap(), 137);
    assert_eq!(client.delete("c").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_paused_container_stands_still() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let (_, mut io) =
        client.create("c", &Container::sh("while true; do echo tick; sleep 0.02; done")).await.unwrap();
    client.start("c").await.unwrap();
    io.expect("tick").await;
    client.tasks.pause(PauseTaskRequest { container_id: "c".into() }).await.unwrap();
    // What was on its way may still come; then nothing does.
    let mut buffer = [0; 4096];
    while tokio::time::timeout(Duration::from_millis(200), io.stdout.read(&mut buffer)).await.is_ok() {}
    client.tasks.resume(ResumeTaskRequest { container_id: "c".into() }).await.unwrap();
    io.expect("tick").await;
    client.tasks.pause(PauseTaskRequest { container_id: "c".into() }).await.unwrap();
    client.kill("c", libc::SIGKILL, PidOrAll::Pid(0)).await.unwrap();
    assert_eq!(client.wait("c", 0).await, 137);
}

#[tokio::test]
async fn a_created_container_can_be_deleted_without_a_start() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["true"])).await.unwrap();
    assert_eq!(client.delete("c").await.unwrap(), 137);
    assert_eq!((guest.cgroups(), guest.mounts(), guest.children()), (vec![], vec![], 0));
}

#[tokio::test]
async fn exec_runs_beside_init_with_an_exit_code_of_its_own() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::sh("echo from init > /tmp/note; sleep 1000; exit")).await.unwrap();
    client.start("c").await.unwrap();
    let line =
        "while ! cat /tmp/note 2>/dev/null; do :; done; hostname; tr '\\0' ' ' < /proc/1/cmdline; exit 5";
    let (pid, io) = client.exec("c", "e", Client::shell(line), false).await.unwrap();
    let ended = client.finish("c", pid, io).await;
    assert_eq!(ended.status, 5);
    assert!(ended.stdout.starts_with("from init\nbox\nsh -c"), "{ended:?}");
    let request = || DeleteProcessRequest { container_id: "c".into(), pid };
    assert_eq!(client.tasks.delete_process(request()).await.unwrap().into_inner().exit_status, 5);
    assert_eq!(client.tasks.delete_process(request()).await.unwrap_err().code(), Code::NotFound);
    let error =
        client.exec("c", "f", json!({"user": {"uid": 0, "gid": 0}, "args": ["nosuch"], "cwd": "/"}), false);
    assert_eq!(error.await.err().unwrap().metadata().get("theca-exec-errno").unwrap(), "2");
}

#[tokio::test]
async fn kill_reaches_one_process_or_all() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::sh("trap 'exit 7' TERM; sleep 1000 & wait")).await.unwrap();
    client.start("c").await.unwrap();
    let (pid, io) = client.exec("c", "e", Client::shell("exec sleep 1000"), false).await.unwrap();
    client.kill("c", libc::SIGINT, PidOrAll::Pid(pid)).await.unwrap();
    assert_eq!(client.finish("c", pid, io).await.status, 128 + 2);
    client.kill("c", libc::SIGTERM, PidOrAll::All(true)).await.unwrap();
    assert_eq!(client.wait("c", 0).await, 7);
    let error = client.kill("c", 0, PidOrAll::Pid(0)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn sigkill_to_all_does_not_wait_for_processes_that_wait_for_a_disk() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let writer = Container::sh("echo begun; while :; do echo more >> /file; done").on_disk();
    let (_, mut io) = client.create("c", &writer).await.unwrap();
    client.start("c").await.unwrap();
    io.expect("begun").await;
    let stuck = guest.freeze_scratch();
    while !guest.waits_for_a_disk("c") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Others are sent to processes that stand still, which this one cannot. It goes on afterwards.
    let error = client.kill("c", libc::SIGTERM, PidOrAll::All(true)).await.unwrap_err();
    assert!(error.message().contains("did not freeze"), "{error}");
    assert_eq!(guest.cgroup_file("c", "cgroup.freeze"), "0\n");

    let asked = Instant::now();
    client.kill("c", libc::SIGKILL, PidOrAll::All(true)).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(status(&mut client, "c").await, types::Status::Running);
    drop(stuck);
    assert_eq!(client.wait("c", 0).await, 137);
    client.delete("c").await.unwrap();
    assert_eq!((guest.cgroups(), guest.mounts()), (vec![], vec![]));
}

#[tokio::test]
async fn traffic_is_counted_until_delete_and_apart_from_that_of_others() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let line = "head -c 100000 /dev/zero > /tmp/file; httpd -p 127.0.0.1:7000 -h /tmp
        wget -q -O /dev/null http://127.0.0.1:7000/file";
    client.create_silent("c", &Container::sh(line)).await.unwrap();
    client.create_silent("quiet", &Container::new(["sleep", "1000"])).await.unwrap();
    assert_eq!(received(&mut client, "c").await, 0);
    client.start("c").await.unwrap();
    assert_eq!(client.wait("c", 0).await, 0);
    let counted = received(&mut client, "c").await;
    assert!((100_000..200_000).contains(&counted), "{counted}");
    assert_eq!(received(&mut client, "quiet").await, 0);

    // One that has no network of its own has what is shared, and so have all together.
    let shared =
        Container::new(["true"]).with("/linux/namespaces", json!([{"type": "pid"}, {"type": "mount"}]));
    let shared = shared.with("/hostname", serde_json::Value::Null);
    client.create_silent("shared", &shared).await.unwrap();
    let before = received(&mut client, "").await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
    for id in ["", "shared"] {
        assert!(received(&mut client, id).await >= before + 1000, "{id:?}");
    }
}

/// What came over the loopback interface of a container, in bytes.
async fn received(client: &mut Client, id: &str) -> u64 {
    let stats =
        client.agent.stats(StatsRequest { container_id: id.into() }).await.unwrap().into_inner().files;
    let interfaces = &stats["net/dev"];
    let loopback = interfaces.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let loopback = loopback.unwrap_or_else(|| panic!("no loopback in {interfaces}"));
    loopback.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn exits_are_told_as_events() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let mut events = client.agent.events(EventsRequest {}).await.unwrap().into_inner();
    let pid = client.create_silent("c", &Container::sh("exit 4")).await.unwrap();
    client.start("c").await.unwrap();
    let event = events.message().await.unwrap().unwrap();
    let Some(event::Event::Exit(exit)) = event.event else { panic!("{event:?}") };
    assert_eq!((event.container_id.as_str(), exit.pid, exit.exit_status), ("c", pid, 4));
    assert!(exit.exited_at.is_some());
}

#[tokio::test]
async fn a_reader_that_stalls_stops_its_own_process_only() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let (_, stalled) = client.create("slow", &Container::sh("cat /dev/zero")).await.unwrap();
    client.start("slow").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    for round in 0..3 {
        let ended = client.run(&format!("quick{round}"), &Container::sh("echo on time")).await.unwrap();
        assert_eq!(ended.stdout, "on time\n");
    }
    drop(stalled);
    // As with any pipe that nobody reads any more.
    assert_eq!(client.wait("slow", 0).await, 1);
}

#[tokio::test]
async fn output_outlives_the_process_that_began_it() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("c").await.unwrap();
    let line = "(sleep 0.3; echo late) & echo early";
    let (pid, io) = client.exec("c", "e", Client::shell(line), false).await.unwrap();
    assert_eq!(client.wait("c", pid).await, 0);
    assert_eq!(client.finish("c", pid, io).await.stdout, "early\nlate\n");
}

#[tokio::test]
async fn processes_are_listed_with_those_that_the_container_started() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let pid = client.create_silent("c", &Container::sh("sleep 1000 & wait")).await.unwrap();
    client.start("c").await.unwrap();
    let listed = loop {
        let request = ListProcessesRequest { container_id: "c".into() };
        let listed = client.tasks.list_processes(request).await.unwrap().into_inner().processes;
        if listed.len() == 2 {
            break listed;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((listed[0].pid, listed[0].args[0].as_str()), (pid, "sh"));
    assert_ne!(listed[1].pid, pid);
    let tasks = client.tasks.list(ListTasksRequest::default()).await.unwrap().into_inner().tasks;
    assert_eq!(tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn unknown_and_known_ids_have_their_codes() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    assert_eq!(client.start("nosuch").await.unwrap_err().code(), Code::NotFound);
    client.create_silent("c", &Container::new(["true"])).await.unwrap();
    let again = client.prepare("c", &Container::new(["true"])).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    let release = client.agent.release(ReleaseRequest { container_id: "c".into() }).await.unwrap_err();
    assert_eq!(release.code(), Code::FailedPrecondition, "{release}");
    let checkpoint = client.tasks.checkpoint(CheckpointTaskRequest::default()).await.unwrap_err();
    assert_eq!(checkpoint.code(), Code::Unimplemented, "{checkpoint}");
    let wait = client
        .agent
        .wait(WaitRequest { container_id: "c".into(), pid: 999_999, output: false })
        .await
        .unwrap_err();
    assert_eq!(wait.code(), Code::NotFound, "{wait}");
}

#[tokio::test]
async fn a_hundred_runs_leave_no_descriptor_mount_or_zombie() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let container = Container::sh("sleep 1000 & echo x");
    client.run("first", &container).await.unwrap();
    let before = guest.descriptors();
    for round in 0..100 {
        assert_eq!(client.run(&format!("c{round}"), &container).await.unwrap().stdout, "x\n");
    }
    assert_eq!((guest.cgroups(), guest.mounts(), guest.children()), (vec![], vec![], 0));
    assert!(guest.descriptors() <= before + 2, "{} descriptors, {before} before", guest.descriptors());
}

#[tokio::test]
async fn shutdown_ends_containers_and_then_the_agent() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let polite = Container::sh("trap 'exit 0' TERM; echo ready; sleep 1000 & wait");
    let (_, mut io) = client.create("c", &polite).await.unwrap();
    client.start("c").await.unwrap();
    io.expect("ready").await;
    let mut events = client.agent.events(EventsRequest {}).await.unwrap().into_inner();
    client.agent.shutdown(ShutdownRequest { timeout_ms: 5000 }).await.unwrap();
    let event = events.message().await.unwrap().unwrap();
    assert!(matches!(event.event, Some(event::Event::Exit(Exit { exit_status: 0, .. }))), "{event:?}");
    assert!(client.start("c").await.is_err());
    assert_eq!(guest.cgroups(), [""; 0]);
}

#[tokio::test]
async fn what_was_written_to_a_disk_is_there_when_its_container_comes_back() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let container = Container::sh("echo again >> /seen; cat /seen").on_disk();
    assert_eq!(client.run("c", &container).await.unwrap().stdout, "again\n");
    assert_eq!(client.run("c", &container).await.unwrap().stdout, "again\nagain\n");
    assert_eq!(guest.mounts(), [""; 0]);
}

#[tokio::test]
async fn what_was_written_to_a_shared_disk_goes_with_its_container() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("other", &Container::new(["true"]).on_disk()).await.unwrap();
    let container =
        Container::sh("mkdir -p /deep/er; echo again >> /seen; rm /etc/group; cat /seen").on_disk();
    assert_eq!(client.run("c", &container).await.unwrap().stdout, "again\n");
    assert_eq!(client.run("c", &container).await.unwrap().stdout, "again\n");
    client.delete("other").await.unwrap();
    assert_eq!(guest.mounts(), [""; 0]);
}

#[tokio::test]
async fn a_terminal_has_a_size_and_is_the_console() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let spec =
        Container::sh("tty; stty size; echo direct > /dev/console; read line; stty size; echo got $line")
            .terminal()
            .with("/process/consoleSize", json!({"width": 100, "height": 30}));
    let (_, mut io) = client.create("c", &spec).await.unwrap();
    client.start("c").await.unwrap();
    let seen = io.expect("direct").await;
    assert!(seen.starts_with("/dev/pts/0\r\n30 100\r\ndirect"), "{seen:?}");
    client
        .tasks
        .resize_pty(ResizePtyRequest { container_id: "c".into(), pid: 0, width: 90, height: 20 })
        .await
        .unwrap();
    io.stdin.write_all(b"typed\n").await.unwrap();
    let seen = io.expect("got typed").await;
    assert!(seen.contains("20 90\r\n"), "{seen:?}");
    assert_eq!(client.wait("c", 0).await, 0);
}

#[tokio::test]
async fn control_c_on_a_terminal_interrupts_an_exec() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("c").await.unwrap();
    let process = json!({"terminal": true, "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
        "args": ["sleep", "1000"]});
    let (pid, mut io) = client.exec("c", "e", process, true).await.unwrap();
    io.stdin.write_all(&[3]).await.unwrap();
    io.expect("^C").await;
    assert_eq!(client.wait("c", pid).await, 128 + 2);
}
