//! A machine for tests: keepers that are values instead of processes, and a node over them.

pub mod chance;
mod keeper;
mod keepers;
pub mod life;
pub mod model;
mod process;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::keeper::FakeKeeper;
pub use self::keepers::FakeKeepers;
use self::life::{Life, Reached};
use super::events::{Subscription, Told, What};
use super::keeper::{Keeper, NewTask};
use super::sandbox::{CreateSandbox, Resources};
use super::task::CreateTask;
use super::values::{Io, Source};
use super::{Limits, Node, Setup};
use crate::id::{ContainerId, Namespace, SandboxId};

/// A node, its keepers and its folders.
pub struct Bench {
    pub node: Node,
    pub keepers: Arc<FakeKeepers>,
    pub namespace: Namespace,
    pub life: Arc<Life>,
    folder: tempfile::TempDir,
}

impl Bench {
    /// A machine on which nothing runs.
    pub async fn new() -> Self {
        // In memory where that is possible: thousands of these are made.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        std::fs::create_dir_all(folder.path().join("bundle")).unwrap();
        std::fs::write(folder.path().join("bundle/config.json"), "{}").unwrap();
        let keepers = Arc::new(FakeKeepers::default());
        let (node, life) = open(&folder, &keepers).await;
        Self { node, keepers, namespace: "tests".parse().unwrap(), life, folder }
    }

    /// thecad ends, in an orderly way unless its life is over, and starts again: nothing but files and keepers is left of it.
    pub async fn restart(&mut self) {
        self.node.close().await;
        (self.node, self.life) = open(&self.folder, &self.keepers).await;
    }

    /// `kill -9` of thecad at this moment; the next one starts at once.
    pub async fn kill(&mut self) {
        self.node.shared.kill().await;
        (self.node, self.life) = open(&self.folder, &self.keepers).await;
    }

    /// What thecad has written down of sandboxes and tasks, to be put back by [`Bench::rewind`].
    pub fn written(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = self.folder.path().join("run/.thecad/tests");
        let files = ["sandboxes", "tasks"].map(|kind| std::fs::read_dir(folder.join(kind)));
        let files = files.into_iter().flatten().flatten().flatten();
        files.map(|file| (file.path(), std::fs::read(file.path()).unwrap())).collect()
    }

    /// thecad was killed before it could write down what has changed since.
    pub fn rewind(&self, written: &[(PathBuf, Vec<u8>)]) {
        for (path, _) in self.written() {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in written {
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// A document of `sandboxes` or `tasks` cannot be written from now on, as if the file system were full; or can again.
    pub fn does_not_fit(&self, kind: &str, id: &str, full: bool) {
        let fresh = self.folder.path().join("run/.thecad/tests").join(kind).join(format!(".{id}.new"));
        let done = if full { std::fs::create_dir(fresh) } else { std::fs::remove_dir(fresh) };
        done.unwrap();
    }

    /// The machine boots anew: nothing runs, and `/run` is empty.
    pub async fn reboot(&mut self) {
        self.node.close().await;
        self.keepers.forget_all();
        std::fs::remove_dir_all(self.folder.path().join("run")).unwrap();
        (self.node, self.life) = open(&self.folder, &self.keepers).await;
    }

    /// A bundle whose specification has `annotations`.
    pub fn annotated(&self, annotations: serde_json::Value) -> Source {
        let bundle = self.folder.path().join("annotated");
        std::fs::create_dir_all(&bundle).unwrap();
        let spec = serde_json::json!({ "annotations": annotations });
        std::fs::write(bundle.join("config.json"), spec.to_string()).unwrap();
        Source::Bundle(bundle)
    }

    /// A task to create, in a sandbox of its own unless it names one.
    pub fn task(&self, id: &str, sandbox: Option<&str>) -> CreateTask {
        CreateTask {
            container: container(id),
            sandbox: sandbox.map(|id| id.parse().unwrap()),
            source: Source::Bundle(self.folder.path().join("bundle")),
            rootfs: Vec::new(),
            io: Io::default(),
            delete_at_exit: false,
        }
    }

    /// Creates and starts a sandbox.
    pub async fn sandbox(&self, id: &str) -> SandboxId {
        self.node.run_sandbox(&self.namespace, sandbox(id)).await.unwrap();
        id.parse().unwrap()
    }

    /// Creates and starts a task in a sandbox, or in one of its own.
    pub async fn running(&self, id: &str, sandbox: Option<&str>) -> ContainerId {
        self.node.create_task(&self.namespace, self.task(id, sandbox)).await.unwrap();
        self.node.start_task(&self.namespace, &container(id)).await.unwrap();
        container(id)
    }

    /// What containerd does at a keeper's own task API: creates and starts a container.
    pub async fn make_at(&self, keeper: &dyn Keeper, id: &str) {
        let bundle = self.folder.path().join("bundle");
        let (container, rootfs, io) = (container(id), Vec::new(), Io::default());
        keeper.create(NewTask { container, bundle, rootfs, io, options: None }).await.unwrap();
        keeper.start(&self::container(id), None).await.unwrap();
    }

    /// Leaves the bundle of a container whose creation was cut off, as [`Source::Store`] makes them.
    pub fn leave_bundle(&self, id: &str) -> PathBuf {
        let bundle = self.folder.path().join("run/.thecad/tests/bundles").join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), "{}").unwrap();
        bundle
    }

    /// How many files the node has left about what ran.
    pub fn journal_files(&self) -> usize {
        let folder = self.folder.path().join("run/.thecad/tests");
        let kinds = std::fs::read_dir(folder).into_iter().flatten().flatten();
        kinds.flat_map(|kind| std::fs::read_dir(kind.path()).into_iter().flatten()).count()
    }

    /// The keeper of a sandbox.
    pub fn keeper(&self, id: &str) -> Arc<FakeKeeper> {
        self.keepers.find(&self.namespace, &id.parse().unwrap()).expect("it runs")
    }
}

async fn open(folder: &tempfile::TempDir, keepers: &Arc<FakeKeepers>) -> (Node, Arc<Life>) {
    let life = Life::begin();
    let setup = Setup {
        root: folder.path().join("lib"),
        state: folder.path().join("run"),
        keepers: Arc::new(Reached { keepers: keepers.clone(), life: life.clone() }),
        limits: Limits { hung: Duration::from_secs(30), ..Limits::default() },
    };
    (Node::open(setup).await.unwrap(), life)
}

/// A sandbox to create.
pub fn sandbox(id: &str) -> CreateSandbox {
    CreateSandbox {
        id: id.parse().unwrap(),
        resources: Resources::default(),
        kernel_args: Vec::new(),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        annotations: Default::default(),
        netns_path: String::new(),
        extensions: Default::default(),
    }
}

/// A container's id.
pub fn container(id: &str) -> ContainerId {
    id.parse().unwrap()
}

/// The next `count` events, as `container what`.
pub async fn told(events: &mut Subscription, count: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(100), events.next()).await;
        told.push(line(next.unwrap_or_else(|_| panic!("only {told:?} was told"))));
    }
    told
}

/// All events that there are by now; they have reached the reader then.
pub async fn heard(events: &mut Subscription) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
        told.push(line(next));
    }
    told
}

fn line(told: Option<Told>) -> String {
    match told {
        Some(Told::Event(event)) => match &event.container {
            Some(id) => format!("{id} {}", word(&event.what)),
            None => format!("{} {}", event.sandbox, word(&event.what)),
        },
        other => panic!("{other:?}"),
    }
}

/// What happened in few words.
pub fn word(what: &What) -> String {
    match what {
        What::SandboxStarted { .. } => "up".into(),
        What::SandboxExited { exit, .. } => format!("down {}", exit.status),
        What::Created { .. } => "created".into(),
        What::Started { .. } => "started".into(),
        What::ExecAdded { .. } => "exec-added".into(),
        What::ExecStarted { .. } => "exec-started".into(),
        What::Exited { exec: None, exit, .. } => format!("exited {}", exit.status),
        What::Exited { exec: Some(_), exit, .. } => format!("exec-exited {}", exit.status),
        What::Deleted { exec: None, .. } => "deleted".into(),
        What::Deleted { exec: Some(_), .. } => "exec-deleted".into(),
        What::Paused => "paused".into(),
        What::Resumed => "resumed".into(),
        What::OutOfMemory => "oom".into(),
    }
}
