//! What takes its time holds up nothing else: a sandbox that is stopped with much patience, while others have less; an exit that
//! waits for a reader; an exec that the container does not let start.

use super::*;
use crate::task::stdio::Readers;

const PATIENT: Duration = Duration::from_secs(600);

/// One whose container does not listen to SIGTERM, and that is being stopped.
async fn stopping() -> (Scene, JoinHandle<Result<()>>) {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.go_deaf();
    let sandbox = scene.sandbox.clone();
    let stop = tokio::spawn(async move { sandbox.stop(PATIENT).await });
    while scene.agent.calls().last().is_none_or(|call| call != "shutdown the guest") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (scene, stop)
}

async fn soon<T>(answer: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), answer).await.expect("it takes too long")
}

#[tokio::test]
async fn a_sandbox_answers_while_it_is_being_stopped() {
    let (scene, stop) = stopping().await;
    assert_eq!(soon(scene.phase("web")).await.unwrap(), Phase::Running);
    assert!(soon(scene.sandbox.info()).await.unwrap().guest.is_some());
    let id = "web".parse().unwrap();
    assert!(!soon(scene.sandbox.ask_task(&id, TaskRequest::Stats)).await.unwrap().is_empty());
    soon(scene.sandbox.ping()).await.unwrap();
    for refused in [soon(scene.create("other")).await.map(drop), soon(scene.sandbox.pause()).await] {
        assert_eq!(refused.unwrap_err().to_string(), "the sandbox is being stopped");
    }
    assert!(!stop.is_finished());
    scene.sandbox.stop(Duration::ZERO).await.unwrap();
    soon(stop).await.unwrap().unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_stop_is_cut_short_by_a_kill() {
    let (scene, stop) = stopping().await;
    let kill = |reply| TaskRequest::Kill { which: None, signal: 9, all: true, reply };
    soon(scene.sandbox.ask_task(&"web".parse().unwrap(), kill)).await.unwrap();
    soon(stop).await.unwrap().unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_stop_is_cut_short_by_one_with_less_patience_and_not_made_longer_by_one_with_more() {
    let (scene, stop) = stopping().await;
    let more = tokio::spawn({
        let sandbox = scene.sandbox.clone();
        async move { sandbox.stop(2 * PATIENT).await }
    });
    soon(scene.sandbox.stop(Duration::from_millis(100))).await.unwrap();
    for answered in [stop, more] {
        soon(answered).await.unwrap().unwrap();
    }
    assert_eq!(scene.agent.calls().iter().filter(|call| call.starts_with("shutdown")).count(), 2);
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_stop_is_cut_short_by_a_signal_to_the_keeper() {
    let (scene, stop) = stopping().await;
    scene.sandbox.terminate().await;
    soon(stop).await.unwrap().unwrap();
    scene.ends_without_trace().await;
}

/// For everybody who only waits for time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn an_exit_waits_for_a_reader_that_is_there_until_the_process_is_killed() {
    let scene = Scene::begin("floods", SandboxOptions::default());
    let path = fifo(scene.root.path(), "stdout");
    let _reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut task = scene.task("web");
    task.io = IoRequest { stdout: Some(Target::Fifo(path)), readers: Readers::AreThere, ..task.io };
    scene.sandbox.create(task).await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.end(FIRST_PID, 7);
    assert!(timeout(Duration::from_millis(500), scene.wait("web")).await.is_err(), "nobody has read it");
    pass(Duration::from_secs(3600)).await;
    assert!(timeout(Duration::from_millis(500), scene.wait("web")).await.is_err(), "it was given up");
    scene.agent.refuse("kill", Code::NotFound, "process 100 has ended");
    let kill = |reply| TaskRequest::Kill { which: None, signal: 9, all: true, reply };
    let killed = scene.sandbox.ask_task(&"web".parse().unwrap(), kill).await.unwrap_err();
    assert_eq!(killed.to_string(), "process already finished");
    pass(Duration::from_secs(15)).await;
    assert_eq!(soon(scene.wait("web")).await.unwrap().status, 7);
    scene.sandbox.shutdown(true).await.unwrap();
}

/// A task with an exec that the guest takes an hour to start, and who waits for that.
async fn starting() -> (Scene, crate::task::TaskHandle, JoinHandle<Result<u32>>) {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.delay("exec", Duration::from_secs(3600));
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let (exec, io) = ("shell".parse().unwrap(), IoRequest::default());
    let add = AddProcess { exec, io, spec: b"{}".to_vec(), kept: Kept::UntilDelete };
    task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
    let asked = task.clone();
    let start = async move { asked.ask(|reply| TaskRequest::Start(shell(), reply)).await };
    let start = tokio::spawn(start);
    while scene.agent.calls().last().is_none_or(|call| call != "exec web") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (scene, task, start)
}

fn shell() -> Option<crate::id::ExecId> {
    Some("shell".parse().unwrap())
}

#[tokio::test]
async fn an_exec_that_takes_its_time_to_start_holds_up_nothing_else() {
    let (scene, task, start) = starting().await;
    assert_eq!(soon(scene.phase("web")).await.unwrap(), Phase::Running);
    let report = soon(task.ask(|reply| TaskRequest::State(shell(), reply))).await.unwrap();
    assert_eq!((report.phase, report.pid), (Phase::Starting, 0));
    for refused in [
        soon(task.ask(|reply| TaskRequest::Start(shell(), reply))).await.map(drop),
        soon(task.ask(|reply| TaskRequest::Delete(shell(), reply))).await.map(drop),
    ] {
        assert!(refused.unwrap_err().to_string().ends_with("a process that is being started"));
    }
    soon(task.ask(|reply| TaskRequest::CloseIo(shell(), reply))).await.unwrap();
    assert!(!start.is_finished());
    pass(Duration::from_secs(3600)).await;
    soon(start).await.unwrap().unwrap();
    let report = soon(task.ask(|reply| TaskRequest::State(shell(), reply))).await.unwrap();
    assert_eq!(report.phase, Phase::Running);
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn a_container_is_killed_and_deleted_while_an_exec_starts() {
    let (scene, task, start) = starting().await;
    soon(task.ask(|reply| TaskRequest::Kill { which: None, signal: 9, all: true, reply })).await.unwrap();
    // Its exec may have become something whose end is to be told first, but for so long only.
    tokio::time::sleep(Duration::from_millis(100)).await;
    pass(Duration::from_secs(15)).await;
    assert_eq!(soon(scene.wait("web")).await.unwrap().status, 137);
    soon(scene.delete("web")).await.unwrap();
    assert!(soon(start).await.unwrap().is_err());
    scene.sandbox.shutdown(false).await.unwrap();
    scene.ends_without_trace().await;
}
