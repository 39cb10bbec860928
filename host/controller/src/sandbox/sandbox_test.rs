//! Whole sandboxes, with a fake agent and a process that stands for the VMM.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::options::DiskOption;
use super::*;
use crate::agent::Code;
use crate::sys::pidfd::PidFd;
use crate::task::state::Phase;
use crate::task::stdio::Target;
use crate::task::{AddProcess, Exit, Kept};
use crate::testing::agent::{FIRST_PID, FakeAgent, FakeConnector};
use crate::testing::{fifo, vmm};

/// A sandbox in a folder of its own.
struct Scene {
    root: tempfile::TempDir,
    folder: RunDir,
    agent: Arc<FakeAgent>,
    sandbox: Sandbox,
    ended: JoinHandle<()>,
}

impl Scene {
    fn begin(behaviour: &str, options: SandboxOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        let here = root.path();
        vmm::program(here, behaviour);
        for file in ["vmlinux", "initrd.cpio", "kvm"] {
            fs::write(here.join(file), "").unwrap();
        }
        for image in ["base.erofs", "disk.ext4"] {
            fs::write(here.join(image), [0; 512]).unwrap();
        }
        fs::create_dir(here.join("bundle")).unwrap();
        fs::write(here.join("bundle/config.json"), r#"{"process":{"args":["sh"]}}"#).unwrap();
        let folder = RunDir::new(&here.join("run"), &"tests".parse().unwrap(), &"web".parse().unwrap());
        folder.create().unwrap();
        let agent = FakeAgent::new();
        let (sandbox, ended) = Sandbox::begin(Setup {
            folder: folder.clone(),
            bundle: here.join("bundle"),
            options,
            installation: Installation {
                programs: vec![here.into()],
                libraries: vec![here.into()],
                kernel: None,
                initrd: None,
                kvm: here.join("kvm"),
            },
            scratch: here.join("scratch"),
            connector: Arc::new(FakeConnector(agent.clone())),
            timeline: Timeline::begin(),
        });
        Self { root, folder, agent, sandbox, ended }
    }

    fn task(&self, id: &str) -> CreateTask {
        let image = |kind: &str, name: &str| RootfsMount {
            kind: kind.into(),
            source: self.root.path().join(name).display().to_string(),
            options: Vec::new(),
        };
        CreateTask {
            id: id.parse().unwrap(),
            bundle: self.root.path().join("bundle"),
            rootfs: vec![image("erofs", "base.erofs")],
            io: IoRequest::default(),
            log: None,
            tmpfs_bytes: 0,
        }
    }

    async fn create(&self, id: &str) -> Result<u32> {
        self.sandbox.create(self.task(id)).await
    }

    async fn start(&self, id: &str) -> Result<u32> {
        self.sandbox.ask_task(&id.parse().unwrap(), |reply| TaskRequest::Start(None, reply)).await
    }

    async fn delete(&self, id: &str) -> Result<(u32, Exit)> {
        self.sandbox.ask_task(&id.parse().unwrap(), |reply| TaskRequest::Delete(None, reply)).await
    }

    async fn wait(&self, id: &str) -> Result<Exit> {
        self.sandbox.task(&id.parse().unwrap()).await?.wait(None).await
    }

    async fn phase(&self, id: &str) -> Result<Phase> {
        let report =
            self.sandbox.ask_task(&id.parse().unwrap(), |reply| TaskRequest::State(None, reply)).await?;
        Ok(report.phase)
    }

    /// The sandbox ends by itself, soon, and leaves nothing.
    async fn ends_without_trace(self) {
        timeout(Duration::from_secs(20), self.ended).await.unwrap().unwrap();
        assert!(!self.folder.path().exists());
    }
}

fn ephemeral() -> SandboxOptions {
    SandboxOptions { ephemeral: true, ..SandboxOptions::default() }
}

#[tokio::test]
async fn a_task_from_create_to_shutdown() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let vmm = scene.create("web").await.unwrap();
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Created);
    assert_eq!(scene.start("web").await.unwrap(), vmm);
    scene.agent.end(FIRST_PID, 7);
    assert_eq!(scene.wait("web").await.unwrap().status, 7);
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Stopped);
    assert_eq!(scene.delete("web").await.unwrap().1.status, 7);
    assert!(matches!(scene.wait("web").await, Err(Error::UnknownContainer)));
    scene.sandbox.shutdown(false).await.unwrap();
    let calls = scene.agent.calls();
    let expected = [
        "prepare web [0]",
        "create web",
        "start web",
        "delete web None",
        "release web",
        "shutdown the guest",
    ];
    assert_eq!(calls, expected);
    assert!(PidFd::open(vmm).unwrap().is_none(), "the VMM is reaped");
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn disks_that_are_known_boot_the_vm_before_it_is_asked_for() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let disk = |name: &str, read_only| DiskOption { path: scene.root.path().join(name), read_only };
    let disks = vec![disk("base.erofs", true), disk("disk.ext4", false)];
    let eager = Scene::begin("boots", SandboxOptions { disks, ..SandboxOptions::default() });
    while eager.sandbox.info().await.unwrap().guest.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut task = scene.task("web");
    let source = scene.root.path().join("disk.ext4").display().to_string();
    task.rootfs.push(RootfsMount { kind: "ext4".into(), source, options: Vec::new() });
    eager.sandbox.create(task).await.unwrap();
    assert_eq!(eager.agent.calls(), ["prepare web [0, 1]", "create web"]);
    let names: Vec<_> =
        eager.sandbox.info().await.unwrap().timeline.into_iter().map(|(name, _)| name).collect();
    let expected =
        ["vmm_spawned", "vm_configured", "vcpus_started", "agent_ready", "guest:init", "task_created"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn output_reaches_the_fifo_before_the_exit_is_told() {
    let scene = Scene::begin("boots", ephemeral());
    let path = fifo(scene.root.path(), "stdout");
    let mut reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut task = scene.task("web");
    task.io.stdout = Some(Target::Fifo(path));
    scene.sandbox.create(task).await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.end(FIRST_PID, 0);
    scene.wait("web").await.unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello\n");
}

#[tokio::test]
async fn an_exec_has_a_life_of_its_own() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let which = || Some("shell".parse().unwrap());
    let add = |spec: &str| {
        let add = AddProcess {
            exec: "shell".parse().unwrap(),
            io: IoRequest::default(),
            spec: spec.into(),
            kept: Kept::UntilDelete,
        };
        task.ask(|reply| TaskRequest::Exec(Box::new(add), reply))
    };
    assert!(matches!(add("[]").await, Err(Error::Bundle(_))));
    add("{}").await.unwrap();
    assert!(matches!(add("{}").await, Err(Error::ExecExists(_))));
    task.ask(|reply| TaskRequest::Start(which(), reply)).await.unwrap();
    assert!(task.ask(|reply| TaskRequest::Delete(which(), reply)).await.is_err(), "it runs");
    scene.agent.end(FIRST_PID + 1, 3);
    assert_eq!(task.wait(which()).await.unwrap().status, 3);
    assert_eq!(task.ask(|reply| TaskRequest::Delete(which(), reply)).await.unwrap().1.status, 3);
    assert!(matches!(task.wait(which()).await, Err(Error::UnknownExec(_))));
    let told = scene.sandbox.history().page(0, 100, Duration::ZERO).await.unwrap().events;
    let last = told.last().map(|event| (event.subject.exec.clone(), &event.happening));
    assert!(
        matches!(last, Some((Some(_), history::Happening::Deleted(exit))) if exit.status == 3),
        "{last:?}"
    );
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Running);
}

#[tokio::test]
async fn what_has_ended_in_the_guest_is_not_killed_while_its_output_is_on_its_way() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    scene.agent.refuse("kill", Code::NotFound, "process 101 has ended");
    let kill = |reply| TaskRequest::Kill { which: None, signal: 9, all: true, reply };
    assert_eq!(task.ask(kill).await.unwrap_err().to_string(), "process already finished");
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn any_number_waits_while_the_task_has_much_to_do() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let shell = AddProcess {
        exec: "shell".parse().unwrap(),
        io: IoRequest::default(),
        spec: b"{}".to_vec(),
        kept: Kept::UntilDelete,
    };
    task.ask(|reply| TaskRequest::Exec(Box::new(shell), reply)).await.unwrap();
    task.ask(|reply| TaskRequest::Start(Some("shell".parse().unwrap()), reply)).await.unwrap();
    scene.agent.delay("pause", Duration::from_secs(1));
    let pausing = tokio::spawn({
        let task = task.clone();
        async move { task.ask(TaskRequest::Pause).await }
    });
    tokio::task::yield_now().await;
    let mut waiters = tokio::task::JoinSet::new();
    for turn in 0..1000 {
        let which = (turn % 2 == 0).then(|| "shell".parse().unwrap());
        let task = task.clone();
        waiters.spawn(async move { task.wait(which).await });
    }
    pausing.await.unwrap().unwrap();
    scene.agent.end(FIRST_PID + 1, 4);
    scene.agent.end(FIRST_PID, 3);
    let exits = timeout(Duration::from_secs(20), waiters.join_all()).await.unwrap();
    for status in [3, 4] {
        let told = exits.iter().filter(|exit| exit.as_ref().is_ok_and(|exit| exit.status == status)).count();
        assert_eq!(told, 500, "{status}: {:?}", exits.iter().find(|exit| exit.is_err()));
    }
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn the_end_of_init_is_told_after_those_of_its_execs() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let which = || Some("shell".parse().unwrap());
    let add = AddProcess {
        exec: "shell".parse().unwrap(),
        io: IoRequest::default(),
        spec: "{}".into(),
        kept: Kept::UntilDelete,
    };
    task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
    task.ask(|reply| TaskRequest::Start(which(), reply)).await.unwrap();
    scene.agent.refuse("kill", Code::NotFound, "all are gone");
    scene.agent.end(FIRST_PID, 7);
    assert!(timeout(Duration::from_millis(200), task.wait(None)).await.is_err(), "the exec has not ended");
    scene.agent.end(FIRST_PID + 1, 137);
    assert_eq!(task.wait(None).await.unwrap().status, 7);
    let exec = task.ask(|reply| TaskRequest::State(which(), reply)).await.unwrap();
    assert_eq!(exec.exit.unwrap().status, 137);
    assert!(scene.agent.calls().contains(&"kill web All 9".into()));
}

#[tokio::test]
async fn what_the_agent_refuses_is_told_and_undone() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.agent.refuse("create", Code::NotFound, "exec \"foo\": executable file not found in $PATH");
    let error = scene.create("web").await.unwrap_err().to_string();
    assert_eq!(error, "exec \"foo\": executable file not found in $PATH");
    assert!(matches!(scene.wait("web").await, Err(Error::UnknownContainer)));
    assert_eq!(scene.agent.calls(), ["prepare web [0]", "create web", "release web"]);
    scene.sandbox.shutdown(false).await.unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_vm_that_does_not_come_up_is_why_a_task_is_not_created() {
    for (behaviour, expected) in [
        ("refuses", "no machine today"),
        ("panics", "the VM ended before the guest was ready: the guest's kernel panicked"),
        ("silent", "the guest was not ready within 1 s; its last words:\n"),
    ] {
        let options = SandboxOptions { boot_timeout: Duration::from_secs(1), ..SandboxOptions::default() };
        let scene = Scene::begin(behaviour, options);
        let Error::Boot(why) = scene.create("web").await.unwrap_err() else {
            panic!("{behaviour}: not the boot")
        };
        assert_eq!(why.to_string(), expected, "{behaviour}");
        let again = scene.create("web").await.unwrap_err();
        assert!(matches!(again, Error::Boot(_)), "{behaviour}: the reason is kept");
        scene.sandbox.shutdown(false).await.unwrap();
        scene.ends_without_trace().await;
    }
}

#[tokio::test]
async fn a_killed_vmm_ends_its_tasks_as_if_they_were_killed() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let vmm = scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let sandbox = scene.sandbox.clone();
            tokio::spawn(async move { sandbox.task(&"web".parse().unwrap()).await.unwrap().wait(None).await })
        })
        .collect();
    PidFd::open(vmm).unwrap().unwrap().kill().unwrap();
    // A real agent's connection would break now.
    scene.agent.break_off();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().status, 137);
    }
    let error = scene.create("other").await.unwrap_err();
    assert!(
        matches!(&error, Error::VmEnded(end) if end.to_string().contains("killed by signal 9")),
        "{error:?}"
    );
    assert_eq!(scene.delete("web").await.unwrap().1.status, 137);
    scene.sandbox.shutdown(false).await.unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_lost_agent_is_a_failure_of_the_sandbox() {
    let scene = Scene::begin("hangs-up", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.break_off();
    assert_eq!(timeout(Duration::from_secs(20), scene.wait("web")).await.unwrap().unwrap().status, 137);
    let failed = async {
        loop {
            if let Some(end) = scene.sandbox.info().await.unwrap().vm_failure {
                return end.to_string();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reason = timeout(Duration::from_secs(10), failed).await.unwrap();
    assert_eq!(reason, "the connection to the guest's agent was lost");
    let told = scene.sandbox.history().page(0, 100, Duration::ZERO).await.unwrap();
    let orderly = told.events.iter().find_map(|event| match event.happening {
        history::Happening::VmEnded { orderly, .. } => Some(orderly),
        _ => None,
    });
    assert_eq!(orderly, Some(false));
}

#[tokio::test]
async fn a_container_shares_the_pid_namespace_of_its_pod_and_no_other() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let pod = scene.create("web").await.unwrap();
    for (pid, shared) in [(1, false), (pod, true)] {
        let path = format!("/proc/{pid}/ns/pid");
        let config = serde_json::json!({"linux": {"namespaces": [{"type": "pid", "path": path}]}});
        fs::write(scene.root.path().join("bundle/config.json"), config.to_string()).unwrap();
        let created = scene.create("second").await;
        assert_eq!(created.is_ok(), shared, "{created:?}");
    }
}

#[tokio::test]
async fn a_guest_that_is_slow_is_not_one_that_hangs() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    tokio::time::pause();
    scene.agent.delay("info", Duration::from_secs(12));
    scene.sandbox.ping().await.unwrap();
    scene.agent.delay("info", Duration::from_secs(60));
    let error = scene.sandbox.ping().await.unwrap_err().to_string();
    assert_eq!(error, "the agent in the guest did not answer Info within 15 s");
    tokio::time::resume();
    scene.agent.delay("info", Duration::ZERO);
    scene.sandbox.shutdown(true).await.unwrap();
}

#[tokio::test]
async fn a_further_dial_of_the_guest_is_closed() {
    let scene = Scene::begin("redials", SandboxOptions::default());
    scene.create("web").await.unwrap();
    let closed = async {
        while scene.sandbox.info().await.unwrap().vmm_pid != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), closed).await.unwrap();
}

#[tokio::test]
async fn counters_of_a_vm_that_has_ended_are_an_error_at_once() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let vmm = scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    PidFd::open(vmm).unwrap().unwrap().kill().unwrap();
    scene.agent.break_off();
    scene.wait("web").await.unwrap();
    let id = "web".parse().unwrap();
    let stats = scene.sandbox.ask_task(&id, TaskRequest::Stats);
    let stats = timeout(Duration::from_secs(1), stats).await.unwrap();
    assert!(matches!(stats, Err(Error::VmEnded(_))), "{stats:?}");
    assert!(!scene.agent.calls().iter().any(|call| call.starts_with("stats")), "nobody is there to ask");
}

#[tokio::test]
async fn an_ephemeral_sandbox_drops_its_vm_with_the_task() {
    let scene = Scene::begin("boots", ephemeral());
    let vmm = scene.create("web").await.unwrap();
    assert!(matches!(scene.create("second").await, Err(Error::Sandbox(_))));
    scene.start("web").await.unwrap();
    scene.agent.end(FIRST_PID, 0);
    scene.wait("web").await.unwrap();
    let held = PidFd::open(vmm).unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        held.is_none_or(|vmm| vmm.wait(Duration::from_secs(10)).unwrap())
    });
    assert!(ended.await.unwrap());
    scene.delete("web").await.unwrap();
    scene.sandbox.shutdown(false).await.unwrap();
    assert_eq!(scene.agent.calls(), ["prepare web [0]", "create web", "start web"]);
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn shutdown_spares_tasks_unless_it_is_meant() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.sandbox.shutdown(false).await.unwrap();
    assert_eq!(scene.phase("web").await.unwrap(), Phase::Created);
    scene.sandbox.shutdown(true).await.unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn the_sandbox_goes_with_the_process_it_was_started_for() {
    let mut parent = Command::new("sleep").arg("60").spawn().unwrap();
    let scene = Scene::begin("boots", SandboxOptions { parent: Some(parent.id()), ..ephemeral() });
    scene.create("web").await.unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_task_that_nobody_collects_runs_the_exit_command() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("collected");
    let exit_command = vec!["touch".into(), mark.display().to_string()];
    let scene = Scene::begin("boots", SandboxOptions { exit_command, ..SandboxOptions::default() });
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    scene.agent.end(FIRST_PID, 0);
    scene.wait("web").await.unwrap();
    assert!(!mark.exists());
    let marked = async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), marked).await.unwrap();
}

#[tokio::test]
async fn a_folder_becomes_an_image_in_the_scratch_folder_without_a_name() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let folder = scene.root.path().join("rootfs");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "content").unwrap();
    let mount =
        RootfsMount { kind: "bind".into(), source: folder.display().to_string(), options: Vec::new() };
    scene.sandbox.create(CreateTask { rootfs: vec![mount], ..scene.task("web") }).await.unwrap();
    let scratch = scene.root.path().join("scratch");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
    assert_eq!(scene.agent.calls()[0], "prepare web [0]");
}

#[tokio::test]
async fn bad_requests_leave_the_sandbox_as_it_was() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let nowhere = CreateTask { bundle: "/nonexistent".into(), ..scene.task("web") };
    assert!(matches!(scene.sandbox.create(nowhere).await, Err(Error::Bundle(_))));
    let no_root = CreateTask { rootfs: Vec::new(), ..scene.task("web") };
    assert!(matches!(scene.sandbox.create(no_root).await, Err(Error::Rootfs(_))));
    assert_eq!(scene.sandbox.info().await.unwrap().vmm_pid, 0, "no VM was started for them");
    scene.create("web").await.unwrap();
    assert!(matches!(scene.create("web").await, Err(Error::ContainerExists(_))));
}

/// What a task tells of itself.
#[path = "accounts_test.rs"]
mod accounts;
/// A task that is asked about before it is made.
#[path = "creating_test.rs"]
mod creating;
/// A Stop that takes its time.
#[path = "ending_test.rs"]
mod ending;
