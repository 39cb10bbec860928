use super::*;
use crate::agent::Code;
use crate::sandbox::allowance::{Allowance, CpuQuota};
use crate::sandbox::history::{Event, Happening, Subject};
use crate::task::room;

#[tokio::test]
async fn processes_are_listed_from_exec_to_delete_with_their_pids_in_the_guest() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let spec = br#"{"args":["sleep","9"]}"#.to_vec();
    let add = AddProcess {
        exec: "shell".parse().unwrap(),
        io: IoRequest::default(),
        spec,
        kept: Kept::UntilDelete,
    };
    task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
    let which = || Some("shell".parse().unwrap());
    let list = async || {
        let processes = task.ask(TaskRequest::Processes).await.unwrap();
        processes.into_iter().map(|process| (process.guest_pid, process.phase)).collect::<Vec<_>>()
    };
    assert_eq!(list().await, [(FIRST_PID, Phase::Running), (0, Phase::Added)]);
    task.ask(|reply| TaskRequest::Start(which(), reply)).await.unwrap();
    scene.agent.end(FIRST_PID + 1, 3);
    task.wait(which()).await.unwrap();
    assert_eq!(list().await, [(FIRST_PID, Phase::Running), (FIRST_PID + 1, Phase::Stopped)]);

    let processes = task.ask(TaskRequest::Processes).await.unwrap();
    let told = |number: usize| String::from_utf8(processes[number].spec.clone()).unwrap();
    assert_eq!(told(0), r#"{"args":["sh"]}"#, "as in the bundle");
    assert!(told(1).contains("sleep"));
    task.ask(|reply| TaskRequest::Delete(which(), reply)).await.unwrap();
    assert_eq!(list().await, [(FIRST_PID, Phase::Running)]);
}

#[tokio::test]
async fn a_container_keeps_so_many_execs_until_some_are_deleted_and_of_one_that_runs_what_is_told() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let add = async |number: usize| {
        let add = AddProcess {
            exec: format!("exec-{number}").parse().unwrap(),
            io: IoRequest::default(),
            spec: br#"{"args":["true"],"noNewPrivileges":true}"#.to_vec(),
            kept: Kept::UntilDelete,
        };
        task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await
    };
    for number in 0..room::MOST {
        add(number).await.unwrap();
    }
    let first = || Some("exec-0".parse().unwrap());
    task.ask(|reply| TaskRequest::Start(first(), reply)).await.unwrap();
    let spec = task.ask(TaskRequest::Processes).await.unwrap().swap_remove(1).spec;
    assert_eq!(String::from_utf8(spec).unwrap(), r#"{"args":["true"]}"#);
    scene.agent.end(FIRST_PID + 1, 0);
    task.wait(first()).await.unwrap();
    assert!(matches!(add(room::MOST).await, Err(Error::NoRoom(_))), "it has ended and is still known");
    task.ask(|reply| TaskRequest::Delete(first(), reply)).await.unwrap();
    add(room::MOST).await.unwrap();
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn an_exec_that_nobody_deletes_is_forgotten_if_it_was_to_be() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let mut pid = FIRST_PID;
    for (name, kept) in
        [("left", Kept::ForAWhile), ("deleted", Kept::ForAWhile), ("theirs", Kept::UntilDelete)]
    {
        let add =
            AddProcess { exec: name.parse().unwrap(), io: IoRequest::default(), spec: "{}".into(), kept };
        task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
        let which = || Some(name.parse().unwrap());
        task.ask(|reply| TaskRequest::Start(which(), reply)).await.unwrap();
        pid += 1;
        scene.agent.end(pid, 3);
        assert_eq!(task.wait(which()).await.unwrap().status, 3);
        assert_eq!(task.wait(which()).await.unwrap().status, 3, "whoever asks at once is in time");
        if name == "deleted" {
            task.ask(|reply| TaskRequest::Delete(which(), reply)).await.unwrap();
        }
    }
    let names = async || {
        let processes = task.ask(TaskRequest::Processes).await.unwrap();
        processes
            .into_iter()
            .filter_map(|process| process.exec)
            .map(|exec| exec.to_string())
            .collect::<Vec<_>>()
    };
    let forgotten = async {
        while names().await != ["theirs"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), forgotten).await.unwrap();
}

/// What has happened so far, each with whom and its pid in the guest.
async fn story(scene: &Scene) -> Vec<String> {
    let page = scene.sandbox.history().page(0, 100, Duration::ZERO).await.unwrap();
    let tell = |event: Event| {
        let what = match event.happening {
            Happening::Created(_) => "created".to_owned(),
            Happening::Exited(exit) => format!("exited {}", exit.status),
            Happening::Deleted(exit) => format!("deleted {}", exit.status),
            Happening::VmEnded { orderly, .. } => format!("vm ended orderly={orderly}"),
            other => format!("{other:?}").to_lowercase(),
        };
        let Subject { container, exec, guest_pid, .. } = event.subject;
        let container = container.map(|id| id.to_string()).unwrap_or_default();
        let exec = exec.map(|exec| exec.to_string()).unwrap_or_default();
        format!("{container}/{exec} {guest_pid} {what}")
    };
    page.events.into_iter().map(tell).collect()
}

#[tokio::test]
async fn what_happens_to_a_container_is_told_in_order() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    task.ask(TaskRequest::Pause).await.unwrap();
    task.ask(TaskRequest::Resume).await.unwrap();
    let add = AddProcess {
        exec: "sh".parse().unwrap(),
        io: IoRequest::default(),
        spec: "{}".into(),
        kept: Kept::UntilDelete,
    };
    task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
    task.ask(|reply| TaskRequest::Start(Some("sh".parse().unwrap()), reply)).await.unwrap();
    scene.agent.run_out_of_memory("web");
    scene.agent.end(FIRST_PID + 1, 137);
    task.wait(Some("sh".parse().unwrap())).await.unwrap();
    scene.agent.end(FIRST_PID, 0);
    scene.wait("web").await.unwrap();
    scene.delete("web").await.unwrap();
    let expected = [
        "/ 0 vmready",
        "web/ 100 created",
        "web/ 100 started",
        "web/ 100 paused",
        "web/ 100 resumed",
        "web/sh 0 execadded",
        "web/sh 101 execstarted",
        "web/ 100 outofmemory",
        "web/sh 101 exited 137",
        "web/ 100 exited 0",
        "web/ 100 deleted 0",
    ];
    assert_eq!(story(&scene).await, expected);
}

#[tokio::test]
async fn a_kill_for_memory_that_ends_no_process_of_ours_is_told_too() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    let told = async || story(&scene).await.iter().filter(|line| line.ends_with("outofmemory")).count();
    for number in 1..=2 {
        scene.agent.run_out_of_memory("web");
        while told().await < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(told().await, 2, "each once");
}

#[tokio::test]
async fn a_sandbox_that_is_held_boots_at_once_and_lasts_without_tasks() {
    let scene = Scene::begin("boots", SandboxOptions { hold: true, ..SandboxOptions::default() });
    let info = scene.sandbox.ready().await.unwrap();
    assert!(info.vmm_pid != 0 && info.guest.is_some());
    scene.create("web").await.unwrap();
    scene.delete("web").await.unwrap();
    scene.sandbox.shutdown(false).await.unwrap();
    scene.sandbox.ping().await.unwrap();
    scene.sandbox.stop(Duration::ZERO).await.unwrap();
    let last = scene.sandbox.history().page(100, 1, Duration::from_secs(5)).await;
    assert!(matches!(last, Err(Error::Gone)), "{last:?}");
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_paused_sandbox_is_asked_for_nothing_until_it_goes_on() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    assert!(matches!(scene.sandbox.pause().await, Err(Error::Sandbox(_))), "there is no VM yet");
    scene.create("web").await.unwrap();
    scene.sandbox.pause().await.unwrap();
    scene.sandbox.pause().await.unwrap();
    assert!(scene.sandbox.info().await.unwrap().paused);
    let refused = [
        scene.start("web").await.unwrap_err(),
        scene.create("other").await.unwrap_err(),
        scene.sandbox.ping().await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.to_string(), "the sandbox is paused: resume it first");
    }
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Created, "what the keeper knows is told");
    assert!(scene.sandbox.metrics().await.unwrap().files.is_empty());
    scene.sandbox.resume().await.unwrap();
    scene.start("web").await.unwrap();
    assert!(!scene.sandbox.metrics().await.unwrap().files.is_empty());
}

/// A sandbox whose guest is counting what a container uses, and whether that is answered.
async fn with_a_busy_guest() -> (Scene, tokio::task::JoinHandle<bool>) {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.agent.delay("stats", Duration::from_millis(300));
    let web = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let asked = tokio::spawn(async move { web.ask(TaskRequest::Stats).await.is_ok() });
    while !scene.agent.calls().iter().any(|call| call.starts_with("stats")) {
        tokio::task::yield_now().await;
    }
    (scene, asked)
}

#[tokio::test]
async fn a_pause_comes_after_what_the_guest_was_asked_for_before() {
    let (scene, counted) = with_a_busy_guest().await;
    scene.sandbox.pause().await.unwrap();
    assert!(counted.await.unwrap(), "it would have waited until the sandbox goes on");
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Created);
}

#[tokio::test]
async fn a_resume_overtakes_a_pause_that_still_waits() {
    let (scene, counted) = with_a_busy_guest().await;
    let sandbox = scene.sandbox.clone();
    let pausing = tokio::spawn(async move { sandbox.pause().await });
    while !scene.sandbox.info().await.unwrap().paused {
        tokio::task::yield_now().await;
    }
    scene.sandbox.resume().await.unwrap();
    assert!(counted.await.unwrap());
    assert!(pausing.await.unwrap().is_err());
    assert!(!scene.sandbox.info().await.unwrap().paused);
}

#[tokio::test]
async fn what_init_is_can_be_told_though_its_bundle_cannot_be_read() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    fs::remove_dir_all(scene.root.path().join("bundle")).unwrap();
    let told = scene.sandbox.ask_task(&"web".parse().unwrap(), TaskRequest::Processes).await.unwrap();
    assert_eq!(String::from_utf8(told[0].spec.clone()).unwrap(), r#"{"args":["sh"]}"#);
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn what_containers_may_use_is_set_at_boot_and_changes_while_the_vm_runs() {
    let half = Allowance { cpu: Some(CpuQuota::of_processors(1)), memory_bytes: None };
    let scene = Scene::begin("boots", SandboxOptions { allowance: half, ..SandboxOptions::default() });
    let less = Allowance { memory_bytes: Some(64 << 20), ..half };
    scene.sandbox.allow(less).await.unwrap();
    let allowed =
        || scene.agent.calls().into_iter().filter(|call| call.starts_with("allow")).collect::<Vec<_>>();
    assert_eq!(allowed(), [""; 0], "there is no guest yet to be told");
    scene.sandbox.ready().await.unwrap();
    assert_eq!(allowed(), [format!("allow {}", String::from_utf8(less.to_oci()).unwrap())]);
    scene.sandbox.allow(Allowance::default()).await.unwrap();
    assert_eq!(allowed().len(), 2);
    assert!(scene.sandbox.info().await.unwrap().allowance.is_all());
    scene.agent.refuse("allow", Code::InvalidArgument, "no such limit");
    scene.sandbox.allow(half).await.unwrap_err();
    assert!(scene.sandbox.info().await.unwrap().allowance.is_all(), "what the guest refused is not kept");
}

#[tokio::test]
async fn the_guests_clock_is_set_where_it_is_wrong_now_and_then_and_when_it_goes_on() {
    let set = |scene: &Scene| scene.agent.calls().iter().filter(|call| call.starts_with("set_clock")).count();
    let right = Scene::begin("boots", SandboxOptions::default());
    right.sandbox.ready().await.unwrap();
    right.sandbox.pause().await.unwrap();
    right.sandbox.resume().await.unwrap();
    assert_eq!(set(&right), 0, "one that is right is left alone");

    let wrong = Scene::begin("boots", SandboxOptions::default());
    wrong.agent.sleep_in(Duration::from_secs(3600));
    wrong.sandbox.ready().await.unwrap();
    while set(&wrong) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wrong.sandbox.pause().await.unwrap();
    wrong.agent.sleep_in(Duration::from_secs(3));
    wrong.sandbox.resume().await.unwrap();
    assert!(set(&wrong) >= 2, "it is right when Resume answers");
}
