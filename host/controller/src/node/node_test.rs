use std::time::{Duration, SystemTime};

use serde_json::json;

use super::events::Told;
use super::keeper::Keeper;
use super::sandbox::{CreateSandbox, Resources, Standing};
use super::task::{Exec, Phase, Whom};
use super::testing::{Bench, container, sandbox, told};
use super::values::{Io, Source};
use super::{Error, Kind, ProcessName};
use crate::bundle::{Bundle, MAX_CONFIG};

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
async fn a_containers_life_is_told_in_order() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let mut events = node.subscribe(ns);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    let shell = node.exec(ns, &web, exec(None)).await.unwrap();
    assert!(shell.pid > 0 && shell.exec.is_some());
    node.kill(ns, &web, &Whom::All, 9).await.unwrap();
    assert_eq!(node.wait(ns, &web, &ProcessName::Pid(shell.pid)).await.unwrap().status, 137);
    assert_eq!(node.delete_task(ns, &web, false).await.unwrap().exit.status, 137);
    node.stop_sandbox(ns, &"pod".parse().unwrap(), None).await.unwrap();
    assert_eq!(
        told(&mut events, 9).await,
        [
            "pod up",
            "web created",
            "web started",
            "web exec-added",
            "web exec-started",
            "web exec-exited 137",
            "web exited 137",
            "web deleted",
            "pod down 0"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_container_without_a_sandbox_has_one_of_its_own_that_goes_with_it() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let web = bench.running("web", None).await;
    assert!(node.sandboxes(ns).await.unwrap()[0].own_of_container);
    assert_eq!(kind(node.delete_task(ns, &web, false).await), Kind::FailedPrecondition);
    node.delete_task(ns, &web, true).await.unwrap();
    assert!(node.sandboxes(ns).await.unwrap().is_empty());
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_cut_short_by_whoever_has_less_patience() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let patient = Some(Duration::from_secs(3600));
    for paused in [false, true] {
        bench.keepers.broken.lock().unwrap().insert("ears");
        let pod = bench.sandbox("pod").await;
        if paused {
            node.pause_sandbox(ns, &pod).await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        let hurried = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(node.sandbox_status(ns, &pod, true).await.unwrap().exit, None);
            node.shutdown_sandbox(ns, &pod, Some(Duration::from_secs(20))).await.unwrap();
        };
        let stops = (node.stop_sandbox(ns, &pod, patient), node.stop_sandbox(ns, &pod, patient));
        let (first, second, ()) = tokio::join!(stops.0, stops.1, hurried);
        first.and(second).unwrap();
        assert_eq!(begun.elapsed().as_secs(), 30, "paused: {paused}");
        assert_eq!(bench.keepers.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_of_its_own_that_cannot_be_ended_is_ended_as_soon_as_it_can() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let web = bench.running("web", None).await;
    bench.keepers.broken.lock().unwrap().insert("clear");
    assert_eq!(node.delete_task(ns, &web, true).await.unwrap().exit.status, 137);
    assert_eq!(kind(node.delete_task(ns, &web, true).await), Kind::NotFound);
    assert_eq!(node.sandboxes(ns).await.unwrap().len(), 1, "it has not gone");
    bench.keepers.broken.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(node.sandboxes(ns).await.unwrap().is_empty());
    bench.running("web", None).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_sandbox_leaves_is_removed_when_its_end_is_asked_for() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod = bench.sandbox("pod").await;
    let keeper = bench.keeper("pod");
    bench.keepers.broken.lock().unwrap().insert("clear");
    keeper.die();
    assert_eq!(node.wait_sandbox(ns, &pod).await.unwrap().status, 255);
    settle().await;
    let refused = node.shutdown_sandbox(ns, &pod, None).await.unwrap_err();
    assert!(refused.to_string().contains("a mount is busy"), "{refused}");
    bench.keepers.broken.lock().unwrap().clear();
    node.shutdown_sandbox(ns, &pod, None).await.unwrap();
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_vm_does_not_boot_says_why() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.keepers.broken.lock().unwrap().insert("boot");
    bench.sandbox("pod").await;
    for sandbox in [None, Some("pod")] {
        let error = node.create_task(ns, bench.task("web", sandbox)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        assert_eq!(error.to_string(), "the sandbox's VM did not start: no machine today");
        settle().await;
        assert_eq!(node.sandboxes(ns).await.unwrap().len(), 1, "only the pod is left");
    }
    assert_eq!(bench.keepers.count(), 0, "nobody needs the keepers any more");
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_the_keeper_would_find_too_large_is_so_here() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    for (bytes, fine) in [(MAX_CONFIG as usize, true), (MAX_CONFIG as usize + 1, false)] {
        let mut create = bench.task("web", None);
        let empty = json!({ "annotations": { "note": "" } }).to_string().len();
        create.source = bench.annotated(json!({ "note": "x".repeat(bytes - empty) }));
        let Source::Bundle(bundle) = &create.source else { unreachable!() };
        assert_eq!(Bundle::read(bundle).is_ok(), fine, "{bytes} bytes, by the keeper");
        match node.create_task(ns, create).await {
            Ok(_) => assert!(fine, "{bytes} bytes"),
            Err(error) => {
                assert!(!fine, "{bytes} bytes: {error}");
                assert_eq!(error.to_string(), "the bundle's config.json has more than 2097152 bytes");
                assert_eq!(error.kind(), Kind::ResourceExhausted);
            }
        }
        node.delete_task(ns, &container("web"), true).await.ok();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_whose_config_is_a_fifo_is_refused() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut create = bench.task("web", None);
    create.source = Source::Bundle(folder.path().to_owned());
    let error = node.create_task(ns, create).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert_eq!(error.to_string(), format!("failed to read {}: it is not a regular file", config.display()));
    let web = bench.running("web", None).await;
    let error = node.update_task_from_bundle(ns, &web, folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert_eq!(node.task(ns, &web).await.unwrap().init.phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_process_specification_that_is_too_large_is_refused_by_its_size() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let web = bench.running("web", None).await;
    let mut large = exec(Some("large"));
    large.spec = vec![b' '; MAX_CONFIG as usize + 1];
    let error = node.exec(ns, &web, large).await.unwrap_err();
    assert_eq!(error.to_string(), "the process specification has more than 2097152 bytes");
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    let mut fits = exec(Some("fits"));
    fits.spec = vec![b' '; MAX_CONFIG as usize];
    node.exec(ns, &web, fits).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_spec_is_of_another_type_is_refused() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    for (id, type_url, fine) in
        [("web", super::template::OCI_SPEC, true), ("odd", "google.protobuf.Empty", false)]
    {
        let mut record = super::store::ContainerRecord::new(container(id));
        record.spec = Some(super::values::Payload { type_url: type_url.into(), value: b"{}".to_vec() });
        node.create_container_record(ns, record).await.unwrap();
        let mut create = bench.task(id, None);
        create.source = Source::Store;
        let created = node.create_task(ns, create).await;
        assert_eq!(created.is_ok(), fine, "{type_url}");
        if let Err(error) = created {
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(
                error
                    .to_string()
                    .ends_with("not known here: use types.containerd.io/opencontainers/runtime-spec/1/Spec"),
                "{error}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_annotation_names_the_sandbox_to_join() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    let mut create = bench.task("web", None);
    create.source = bench.annotated(json!({ "io.kubernetes.cri.sandbox-id": "pod" }));
    assert_eq!(node.create_task(ns, create).await.unwrap().sandbox.as_str(), "pod");
    let mut create = bench.task("lost", None);
    create.source = bench.annotated(json!({ "io.theca.sandbox": "nowhere" }));
    assert!(matches!(node.create_task(ns, create).await, Err(Error::UnknownSandbox(_))));
    assert!(node.task(ns, &container("lost")).await.is_err(), "nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn what_the_oldest_interface_makes_goes_with_its_inits_exit() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let mut events = node.subscribe(ns);
    let mut create = bench.task("web", None);
    create.delete_at_exit = true;
    node.create_task(ns, create).await.unwrap();
    node.start_task(ns, &container("web")).await.unwrap();
    bench.keeper("web").exit(&container("web"), None, 3);
    let told = told(&mut events, 6).await;
    assert_eq!(told[1..5], ["web created", "web started", "web exited 3", "web deleted"]);
    settle().await;
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn processes_have_exec_ids_and_pids_and_both_name_them() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let web = bench.running("web", None).await;
    let shell = node.exec(ns, &web, exec(Some("shell"))).await.unwrap();
    let by_pid = node.process(ns, &web, &ProcessName::Pid(shell.pid)).await.unwrap();
    assert_eq!(by_pid.exec.unwrap().as_str(), "shell");
    assert_eq!(node.process(ns, &web, &ProcessName::Pid(0)).await.unwrap().exec, None);
    let unknown = node.process(ns, &web, &ProcessName::Pid(9999)).await;
    assert_eq!(unknown.unwrap_err().to_string(), "process 9999 does not exist in container web");
    assert_eq!(kind(node.exec(ns, &web, exec(Some("shell"))).await), Kind::AlreadyExists);
    assert_eq!(kind(node.kill(ns, &web, &Whom::All, 0).await), Kind::InvalidArgument);
    assert_eq!(kind(node.kill(ns, &container("nobody"), &Whom::All, 0).await), Kind::NotFound);
    node.kill(ns, &web, &Whom::Process(ProcessName::Pid(shell.pid)), 9).await.unwrap();
    let finished = node.kill(ns, &web, &Whom::Process(ProcessName::Pid(shell.pid)), 9).await;
    assert_eq!(finished.unwrap_err().to_string(), "process already finished");
    let deleted = node.delete_process(ns, &web, &ProcessName::Pid(shell.pid)).await.unwrap();
    assert_eq!((deleted.pid, deleted.exit.status), (shell.pid, 137));
}

#[tokio::test(start_paused = true)]
async fn what_is_made_at_the_keeper_is_seen_here() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    let keeper = bench.keeper("pod");
    bench.make_at(&*keeper, "web").await;
    assert_eq!(node.task(ns, &container("web")).await.unwrap().init.phase, Phase::Running);
    assert_eq!(kind(node.create_task(ns, bench.task("web", None)).await), Kind::AlreadyExists);
    // Added at one door, deleted at another, and added again.
    let (web, shell) = (container("web"), || exec(Some("shell")));
    for _ in 0..2 {
        node.add_process(ns, &web, shell()).await.unwrap();
        keeper.delete(&web, shell().exec.as_ref()).await.unwrap();
    }
    assert_eq!(node.processes(ns, &web).await.unwrap().len(), 1);
    node.delete_task(ns, &web, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn counters_outlive_the_exit_until_delete() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    let before = node.stats(ns, &web).await.unwrap().metrics;
    bench.keeper("pod").die();
    settle().await;
    assert_eq!(node.task(ns, &web).await.unwrap().init.phase, Phase::Stopped);
    assert_eq!(node.stats(ns, &web).await.unwrap().metrics, before);
    node.delete_task(ns, &web, false).await.unwrap();
    assert!(matches!(node.stats(ns, &web).await, Err(Error::UnknownContainer(_))));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_dies_before_anybody_asked_leaves_counters() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    settle().await;
    bench.keeper("pod").vm_dies("it was killed");
    settle().await;
    let left = node.stats(ns, &web).await.unwrap();
    assert_eq!(left.metrics.type_url, "fake");
    assert_eq!(node.stats(ns, &web).await.unwrap(), left, "they stay as they are");
}

#[tokio::test(start_paused = true)]
async fn counters_that_were_read_before_stand_for_none_that_can_be_read_now() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod = bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    settle().await;
    let asked = SystemTime::now();
    bench.keeper("pod").exit(&web, None, 0);
    settle().await;
    assert!(node.stats(ns, &web).await.unwrap().at > asked, "of the whole life, not of its start");
    let other = bench.running("other", Some("pod")).await;
    settle().await;
    node.pause_sandbox(ns, &pod).await.unwrap();
    assert_eq!(kind(node.stats(ns, &other).await), Kind::FailedPrecondition, "it only stands still");
    assert!(node.stats(ns, &web).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_last_counters_are_not_old_though_nobody_watched() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    let web = bench.running("web", Some("pod")).await;
    settle().await;
    let started = SystemTime::now();
    tokio::time::sleep(Duration::from_secs(25)).await;
    bench.keeper("pod").die();
    settle().await;
    assert!(node.stats(ns, &web).await.unwrap().at > started);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_named_no_size_tells_the_one_that_it_has() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    bench.sandbox("pod").await;
    bench.running("own", None).await;
    let whole = Resources { vcpus: 1, memory_mib: 256, ..Resources::default() };
    for id in ["pod", "own"] {
        let id = id.parse().unwrap();
        assert_eq!(node.sandbox_status(ns, &id, false).await.unwrap().resources, whole);
        assert_eq!(node.sandbox_metrics(ns, &id).await.unwrap().resources, whole);
    }
    let half = CreateSandbox { resources: Resources { vcpus: 2, ..Resources::default() }, ..sandbox("half") };
    node.create_sandbox(ns, half).await.unwrap();
    let status = node.sandbox_status(ns, &"half".parse().unwrap(), false).await.unwrap();
    assert_eq!(status.resources, Resources { vcpus: 2, memory_mib: 256, ..Resources::default() });
}

#[tokio::test(start_paused = true)]
async fn stop_and_shutdown_may_be_repeated() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod = bench.sandbox("pod").await;
    for _ in 0..2 {
        node.stop_sandbox(ns, &pod, None).await.unwrap();
        assert_eq!(node.wait_sandbox(ns, &pod).await.unwrap().status, 0);
    }
    assert_eq!(kind(node.start_sandbox(ns, &pod).await), Kind::FailedPrecondition);
    for _ in 0..2 {
        node.shutdown_sandbox(ns, &pod, None).await.unwrap();
    }
    assert_eq!(kind(node.stop_sandbox(ns, &pod, None).await), Kind::NotFound);
    bench.sandbox("pod").await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_loses_its_own_events_and_nobody_elses() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let mut slow = node.subscribe(ns);
    let mut quick = node.subscribe(ns);
    let web = bench.running("web", None).await;
    for _ in 0..2500 {
        node.pause_task(ns, &web).await.unwrap();
        node.resume_task(ns, &web).await.unwrap();
        assert_eq!(told(&mut quick, 2).await.len(), 2);
    }
    let Some(Told::Missed(missed)) = slow.next().await else { panic!("it has missed some") };
    assert_eq!(missed, 5003 - super::events::RING as u64);
}

#[tokio::test(start_paused = true)]
async fn a_paused_sandbox_takes_nothing_and_goes_on() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod = bench.sandbox("pod").await;
    node.pause_sandbox(ns, &pod).await.unwrap();
    node.pause_sandbox(ns, &pod).await.unwrap();
    assert_eq!(node.sandbox_status(ns, &pod, false).await.unwrap().standing, Standing::Paused);
    assert_eq!(kind(node.create_task(ns, bench.task("web", Some("pod"))).await), Kind::FailedPrecondition);
    tokio::time::sleep(Duration::from_secs(600)).await;
    node.resume_sandbox(ns, &pod).await.unwrap();
    node.ping_sandbox(ns, &pod).await.unwrap();
    bench.running("web", Some("pod")).await;
}
