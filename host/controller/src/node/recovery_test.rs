use std::sync::atomic::Ordering;
use std::time::Duration;

use super::keeper::Keeper;
use super::sandbox::Standing;
use super::task::{CreateTask, Exec, Phase};
use super::testing::{Bench, container, heard, sandbox, told};
use super::values::Io;
use super::{Error, Kind, ProcessName};

fn exec(name: Option<&str>) -> Exec {
    Exec {
        exec: name.map(|name| name.parse().unwrap()),
        spec: b"{}".to_vec(),
        io: Io::default(),
        forget: false,
    }
}

fn kind<T: std::fmt::Debug>(answer: Result<T, Error>) -> Kind {
    answer.unwrap_err().kind()
}

/// Lets what has been set off come to its end; time is not real here.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test(start_paused = true)]
async fn any_number_waits_and_hears_of_a_keeper_that_was_killed() {
    let bench = Bench::new().await;
    let (node, ns) = (bench.node.clone(), bench.namespace.clone());
    let pod = bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    let mut waiters = tokio::task::JoinSet::new();
    for turn in 0..1000 {
        let (node, ns, pod, web) = (node.clone(), ns.clone(), pod.clone(), web.clone());
        waiters.spawn(async move {
            match turn % 2 {
                0 => node.wait_sandbox(&ns, &pod).await.unwrap().status,
                _ => node.wait(&ns, &web, &ProcessName::Init).await.unwrap().status,
            }
        });
    }
    settle().await;
    bench.keeper("pod").die();
    let statuses = waiters.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 255).count(), 500);
    assert_eq!(statuses.iter().filter(|status| **status == 137).count(), 500);
    let status = node.sandbox_status(&ns, &pod, false).await.unwrap();
    assert_eq!(status.reason, "its keeper has ended; the guest's last words:\nKernel panic");
    assert_eq!(node.wait_sandbox(&ns, &pod).await.unwrap().status, 255, "also after the end");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_dies_and_a_guest_that_hangs_are_noticed() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let (one, two) = (bench.sandbox("one").await, bench.sandbox("two").await);
    let web = bench.running("web", Some("one")).await;
    bench.keeper("one").vm_dies("theca-vmm was killed by signal 9");
    assert_eq!(node.wait_sandbox(ns, &one).await.unwrap().status, 255);
    assert_eq!(
        node.sandbox_status(ns, &one, false).await.unwrap().reason,
        "theca-vmm was killed by signal 9; the guest's last words:\nKernel panic"
    );
    assert_eq!(node.wait(ns, &web, &ProcessName::Init).await.unwrap().status, 137);
    node.delete_task(ns, &web, false).await.unwrap();
    bench.keeper("two").hang();
    assert_eq!(node.wait_sandbox(ns, &two).await.unwrap().status, 255);
    let reason = node.sandbox_status(ns, &two, false).await.unwrap().reason;
    assert!(reason.starts_with("the guest has not answered for"), "{reason}");
    settle().await;
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_leaves_nothing() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    for call in ["spawn", "ready"] {
        bench.keepers.broken.lock().unwrap().insert(call);
        assert!(node.run_sandbox(ns, sandbox("pod")).await.is_err());
        bench.keepers.broken.lock().unwrap().clear();
        assert!(node.sandboxes(ns).await.unwrap().is_empty());
        assert_eq!(bench.keepers.count(), 0);
    }
    bench.keepers.broken.lock().unwrap().insert("create");
    assert!(node.create_task(ns, bench.task("web", None)).await.is_err());
    bench.keepers.broken.lock().unwrap().clear();
    assert_eq!(bench.keepers.count(), 0);
    bench.running("web", None).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_begins_again_finds_everything_and_tells_what_it_missed_once() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    let (pod, lost) = (bench.sandbox("pod").await, bench.sandbox("lost").await);
    let web = bench.running("web", Some("pod")).await;
    let job = bench.running("job", Some("pod")).await;
    let gone = bench.running("gone", Some("lost")).await;
    let shell = bench.node.exec(&ns, &web, exec(None)).await.unwrap();
    heard(&mut events).await;
    bench.node.close().await;
    bench.keeper("pod").exit(&job, None, 7);
    bench.keeper("lost").die();
    bench.restart().await;
    let mut events = bench.node.subscribe(&ns);
    let mut missed = heard(&mut events).await;
    missed.sort();
    assert_eq!(missed, ["gone exited 137", "job exited 7", "lost down 255"]);
    let node = &bench.node;
    assert_eq!(node.wait_sandbox(&ns, &lost).await.unwrap().status, 255);
    assert_eq!(node.wait(&ns, &gone, &ProcessName::Init).await.unwrap().status, 137);
    let found = node.process(&ns, &web, &ProcessName::Pid(shell.pid)).await.unwrap();
    assert_eq!((found.exec, found.phase), (shell.exec, Phase::Running));
    assert_eq!(node.sandbox_status(&ns, &pod, false).await.unwrap().standing, Standing::Ready);
    bench.restart().await;
    let mut events = bench.node.subscribe(&ns);
    bench.keeper("pod").exit(&web, None, 1);
    assert_eq!(told(&mut events, 2).await, ["web exec-exited 1", "web exited 1"], "nothing is told twice");
}

#[tokio::test(start_paused = true)]
async fn what_goes_with_its_end_goes_also_when_thecad_ended_in_between() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    bench.sandbox("pod").await;
    for (id, sandbox) in [("own", None), ("joined", Some("pod")), ("waits", None), ("runs", None)] {
        let create = CreateTask { delete_at_exit: true, ..bench.task(id, sandbox) };
        bench.node.create_task(&ns, create).await.unwrap();
        if id != "waits" {
            bench.node.start_task(&ns, &container(id)).await.unwrap();
        }
    }
    // The exits are told and written down, and the deletions do not work.
    bench.keeper("own").fails("delete");
    bench.keeper("pod").fails("delete");
    bench.keeper("own").exit(&container("own"), None, 3);
    bench.keeper("pod").exit(&container("joined"), None, 4);
    settle().await;
    assert_eq!(bench.node.tasks(&ns).await.unwrap().len(), 4);
    bench.kill().await;
    settle().await;
    assert_eq!(bench.node.tasks(&ns).await.unwrap().len(), 3, "one was waiting for a start that cannot come");
    bench.keeper("own").works_again();
    bench.keeper("pod").works_again();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let tasks = bench.node.tasks(&ns).await.unwrap();
    let left: Vec<_> = tasks.iter().map(|task| (task.container.as_str(), task.init.phase)).collect();
    assert_eq!(left, [("runs", Phase::Running)]);
    assert_eq!(bench.keepers.count(), 2, "the pod, and what runs");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_goes_with_its_exit_leaves_nothing_and_is_told_once() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    heard(&mut events).await;
    let passing = || Exec { forget: true, ..exec(None) };
    for _ in 0..100 {
        let check = bench.node.exec(&ns, &web, passing()).await.unwrap();
        let name = ProcessName::Exec(check.exec.clone().unwrap());
        bench.keeper("pod").exit(&web, check.exec.as_ref(), 6);
        assert_eq!(bench.node.wait(&ns, &web, &name).await.unwrap().status, 6);
        let all = ["web exec-added", "web exec-started", "web exec-exited 6", "web exec-deleted"];
        assert_eq!(heard(&mut events).await, all);
    }
    assert_eq!(bench.node.processes(&ns, &web).await.unwrap().len(), 1);
    // The keeper still knows the latest.
    assert!(bench.keeper("pod").processes(&web).await.unwrap().len() > 1);
    bench.kill().await;
    assert_eq!(bench.node.processes(&ns, &web).await.unwrap().len(), 1);
    let mut events = bench.node.subscribe(&ns);
    assert_eq!(heard(&mut events).await, [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_stands_still_is_paused_whoever_goes_away_while_it_is_frozen() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    let pod = bench.sandbox("pod").await;
    let standing = async |bench: &Bench| bench.node.sandbox_status(&ns, &pod, false).await.unwrap().standing;
    bench.keeper("pod").fails("slow-freeze");
    // The client does not wait, and its call is dropped.
    let late = Duration::from_secs(1);
    tokio::time::timeout(late, bench.node.pause_sandbox(&ns, &pod)).await.unwrap_err();
    // Somebody else's comes after it.
    bench.node.resume_sandbox(&ns, &pod).await.unwrap();
    assert_eq!((standing(&bench).await, bench.keeper("pod").is_frozen()), (Standing::Ready, false));
    assert_eq!(heard(&mut events).await, ["pod up", "pod paused", "pod resumed"]);
    // And thecad is killed.
    tokio::time::timeout(late, bench.node.pause_sandbox(&ns, &pod)).await.unwrap_err();
    bench.kill().await;
    assert_eq!((standing(&bench).await, bench.keeper("pod").is_frozen()), (Standing::Paused, true));
    assert_eq!(heard(&mut bench.node.subscribe(&ns)).await, ["pod paused"]);
    bench.node.resume_sandbox(&ns, &pod).await.unwrap();
    assert_eq!(standing(&bench).await, Standing::Ready);
}

#[tokio::test(start_paused = true)]
async fn after_a_boot_of_the_machine_nothing_is_believed_but_the_store() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    bench.sandbox("pod").await;
    bench.running("web", None).await;
    let record = super::store::ContainerRecord::new(container("kept"));
    bench.node.create_container_record(&ns, record).await.unwrap();
    bench.reboot().await;
    assert!(bench.node.sandboxes(&ns).await.unwrap().is_empty());
    assert!(bench.node.tasks(&ns).await.unwrap().is_empty());
    assert_eq!(bench.node.container_records(&ns, &["id==kept".into()]).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_interrupted_by_a_shutdown() {
    let bench = Bench::new().await;
    let (node, ns) = (bench.node.clone(), bench.namespace.clone());
    bench.keepers.broken.lock().unwrap().insert("slow-ready");
    node.create_sandbox(&ns, sandbox("pod")).await.unwrap();
    let id: crate::id::SandboxId = "pod".parse().unwrap();
    let starting = tokio::spawn({
        let (node, ns, id) = (node.clone(), ns.clone(), id.clone());
        async move { node.start_sandbox(&ns, &id).await }
    });
    settle().await;
    node.shutdown_sandbox(&ns, &id, None).await.unwrap();
    assert_eq!(kind(starting.await.unwrap()), Kind::FailedPrecondition);
    assert!(node.sandboxes(&ns).await.unwrap().is_empty());
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_had_not_taken_when_thecad_was_killed_is_told_by_the_next_to_all_who_come_back() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    assert_eq!(heard(&mut events).await, ["pod up", "web created", "web started"]);
    // Its sandbox goes with it, and the keeper that could have told it again.
    bench.running("own", None).await;
    bench.node.delete_task(&ns, &container("own"), true).await.unwrap();
    bench.kill().await;
    bench.keeper("pod").exit(&web, None, 4);
    settle().await;
    let own = ["own up", "own created", "own started", "own exited 137", "own deleted", "own down 0"];
    let all: Vec<_> = own.into_iter().chain(["web exited 4"]).collect();
    for _ in 0..2 {
        assert_eq!(heard(&mut bench.node.subscribe(&ns)).await, all);
    }
    let mut events = bench.node.subscribe(&ns);
    assert_eq!(heard(&mut events).await, all);
    bench.kill().await;
    assert_eq!(heard(&mut bench.node.subscribe(&ns)).await, [] as [&str; 0], "they have it");
    tokio::time::sleep(super::events::RETURN).await;
    bench.node.delete_task(&ns, &web, false).await.unwrap();
    assert_eq!(heard(&mut bench.node.subscribe(&ns)).await, [] as [&str; 0], "too late");
}

#[tokio::test(start_paused = true)]
async fn what_was_told_but_not_written_down_is_not_told_again() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    bench.sandbox("pod").await;
    bench.sandbox("lost").await;
    let web = bench.running("web", Some("pod")).await;
    bench.running("gone", Some("lost")).await;
    heard(&mut events).await;
    // Each of these is one change of its sandbox; then the process is killed before it can write down the last.
    bench.node.exec(&ns, &web, exec(Some("shell"))).await.unwrap();
    let written = bench.written();
    bench.keeper("pod").exit(&web, None, 0);
    bench.keeper("lost").die();
    settle().await;
    let mut seen = heard(&mut events).await;
    seen.sort();
    let once = [
        "gone exited 137",
        "lost down 255",
        "web exec-added",
        "web exec-exited 0",
        "web exec-started",
        "web exited 0",
    ];
    assert_eq!(seen, once);
    bench.node.shared.kill().await;
    bench.rewind(&written);
    bench.kill().await;
    let mut events = bench.node.subscribe(&ns);
    assert_eq!(heard(&mut events).await, [] as [&str; 0]);
    assert_eq!(bench.node.wait(&ns, &web, &ProcessName::Init).await.unwrap().status, 0);
    bench.node.delete_task(&ns, &web, false).await.unwrap();
    assert_eq!(heard(&mut events).await, ["web deleted"]);
}

#[tokio::test(start_paused = true)]
async fn bundles_of_containers_that_were_not_created_do_not_stay() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    // Nothing runs: nobody can tell of them any more.
    let left = bench.leave_bundle("cut-off");
    bench.kill().await;
    assert!(!left.exists());
    // A sandbox of its own, killed between its start and its task's creation.
    bench.node.create_task(&ns, bench.task("own", None)).await.unwrap();
    let kept = bench.leave_bundle("own");
    let written = bench.written();
    let unfinished: Vec<_> =
        written.into_iter().filter(|(path, _)| path.parent().unwrap().ends_with("sandboxes")).collect();
    bench.node.shared.kill().await;
    bench.rewind(&unfinished);
    bench.kill().await;
    assert!(!kept.exists());
    assert_eq!((bench.keepers.count(), bench.journal_files()), (0, 0));
    // With the last sandbox goes whoever could.
    let (brief, last) = (bench.sandbox("brief").await, bench.sandbox("last").await);
    let left = bench.leave_bundle("cut-off");
    bench.kill().await;
    bench.node.shutdown_sandbox(&ns, &brief, None).await.unwrap();
    assert!(left.exists());
    bench.node.shutdown_sandbox(&ns, &last, None).await.unwrap();
    assert!(!left.exists());
    // In a sandbox that runs, its keeper may tell of one yet.
    bench.sandbox("pod").await;
    let (left, told) = (bench.leave_bundle("left"), bench.leave_bundle("told"));
    bench.kill().await;
    let keeper = bench.keeper("pod");
    bench.make_at(&*keeper, "told").await;
    tokio::time::sleep(super::events::RETURN * 2).await;
    assert_eq!((left.exists(), told.exists()), (false, true));
    bench.node.delete_task(&ns, &container("told"), true).await.unwrap();
    assert!(!told.exists());
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_cannot_be_reached_is_not_taken_for_gone() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let pod = bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    for failures in [3, 20] {
        bench.keepers.unreachable.store(failures, Ordering::Relaxed);
        bench.kill().await;
        let node = &bench.node;
        assert_eq!(node.sandbox_status(&ns, &pod, false).await.unwrap().standing, Standing::Ready);
        if failures == 20 {
            let error = node.delete_task(&ns, &web, true).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert_eq!(
                error.to_string(),
                "the keeper of sandbox pod cannot be reached for the moment: ask again"
            );
            assert_eq!(kind(node.pause_sandbox(&ns, &pod).await), Kind::Unavailable);
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        node.ping_sandbox(&ns, &pod).await.unwrap();
        assert_eq!(node.task(&ns, &web).await.unwrap().init.phase, Phase::Running);
    }
    // One that is found to be gone after all.
    bench.keeper("pod").die();
    bench.keepers.unreachable.store(20, Ordering::Relaxed);
    bench.kill().await;
    assert_eq!(bench.node.wait_sandbox(&ns, &pod).await.unwrap().status, 255);
    assert_eq!(bench.node.wait(&ns, &web, &ProcessName::Init).await.unwrap().status, 137);
}

#[tokio::test(start_paused = true)]
async fn keepers_that_are_stuck_hold_up_a_start_once_and_not_one_after_the_other() {
    let mut bench = Bench::new().await;
    for turn in 0..10 {
        let id = format!("pod-{turn}");
        bench.sandbox(&id).await;
        bench.keeper(&id).get_stuck();
    }
    let before = tokio::time::Instant::now();
    bench.kill().await;
    assert!(before.elapsed() < Duration::from_secs(30), "{:?}", before.elapsed());
    assert_eq!(bench.node.sandboxes(&bench.namespace).await.unwrap().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_a_keeper_creates_for_an_earlier_node_is_deleted_and_never_seen_again() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    bench.sandbox("pod").await;
    let keeper = bench.keeper("pod");
    keeper.is_creating(&container("late"));
    keeper.is_creating(&container("never"));
    bench.kill().await;
    let again = bench.node.create_task(&ns, bench.task("late", Some("pod"))).await;
    assert_eq!(kind(again.map(drop)), Kind::AlreadyExists);
    let deleting = ["late", "never"].map(|id| {
        let (node, ns) = (bench.node.clone(), ns.clone());
        tokio::spawn(async move { node.delete_task(&ns, &container(id), true).await })
    });
    settle().await;
    assert!(deleting.iter().all(|one| !one.is_finished()), "it may still come to be");
    bench.make_at(&*keeper, "late").await;
    keeper.does_not_create(&container("never"));
    let [late, never] = deleting;
    assert_eq!(late.await.unwrap().unwrap().exit.status, 137);
    assert_eq!(kind(never.await.unwrap().map(drop)), Kind::NotFound);
    assert!(keeper.containers().is_empty());
    bench.running("never", Some("pod")).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_is_deleted_while_it_is_created() {
    let bench = Bench::new().await;
    let ns = bench.namespace.clone();
    bench.keepers.broken.lock().unwrap().insert("slow-create");
    let (creating, deleting) = {
        let create = bench.task("web", None);
        let (one, other, ns, also) = (bench.node.clone(), bench.node.clone(), ns.clone(), ns.clone());
        let creating = tokio::spawn(async move { one.create_task(&ns, create).await });
        settle().await;
        (creating, tokio::spawn(async move { other.delete_task(&also, &container("web"), false).await }))
    };
    settle().await;
    assert!(!deleting.is_finished() && !creating.is_finished());
    // Its answer may come after the end of what it made.
    let created = creating.await.unwrap().map(drop);
    assert!(matches!(created, Ok(()) | Err(Error::UnknownContainer(_))), "{created:?}");
    deleting.await.unwrap().unwrap();
    assert!(bench.node.tasks(&ns).await.unwrap().is_empty());
    assert_eq!(bench.keepers.count(), 0);
}
