//! A guest for tests: the agent as a process of this machine, with a disk that holds busybox, and a client of its services.
//!
//! It needs root, loop devices, cgroup v2, `mke2fs`, `losetup`, a static busybox and the example `agent_on_host`. `cargo xtask
//! test --only agent` sees to all of them. Where one is missing the test fails and says which: a test that passes without a
//! guest would tell nothing.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod cgroup;
mod client;
mod disk;
mod specs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cgroup::Cgroup;
pub use client::{Client, Ended, Io};
pub use disk::Disk;
pub use specs::Container;

/// A running agent. Dropping it ends all containers and leaves nothing.
pub struct Guest {
    agent: Child,
    folder: tempfile::TempDir,
    cgroup: Cgroup,
    _disks: [Disk; 2],
}

impl Guest {
    /// Starts an agent.
    ///
    /// # Panics
    ///
    /// If that cannot be done here, with what is missing.
    #[track_caller]
    pub fn start() -> Self {
        match Self::try_start() {
            Ok(guest) => guest,
            Err(reason) => panic!(
                "this test needs a guest, and none starts here: {reason}\n\
                 `cargo xtask test --only agent` runs these tests where they have all that they need"
            ),
        }
    }

    fn try_start() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root".into());
        }
        let program = program()?;
        let folder =
            tempfile::tempdir().map_err(|error| format!("failed to make a temporary folder: {error}"))?;
        let disks = [Disk::busybox(folder.path())?, Disk::scratch(folder.path())?];
        let cgroup = Cgroup::make(folder.path())?;
        let mut agent = Command::new(&program);
        let agent = agent.arg(folder.path()).arg(cgroup.path()).stdin(Stdio::null()).spawn();
        let agent = agent.map_err(|error| format!("failed to start {}: {error}", program.display()))?;
        let mut guest = Self { agent, folder, cgroup, _disks: disks };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(guest.folder.path().join("agent.sock")).is_err() {
            if let Ok(Some(status)) = guest.agent.try_wait() {
                return Err(format!("the agent ended with {status} before it listened"));
            }
            if Instant::now() > deadline {
                return Err("the agent does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(guest)
    }

    /// A client of its services.
    pub async fn client(&self) -> Client {
        Client::connect(self.folder.path()).await
    }

    /// The cgroups of containers that are there.
    pub fn cgroups(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cgroup.containers()).unwrap().flatten();
        let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
        folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    /// The agent's mounts below its own folder.
    pub fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.agent.id())).unwrap();
        let folder = self.folder.path().to_str().unwrap();
        let points =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|path| path.starts_with(folder));
        points.map(str::to_owned).collect()
    }

    /// A file of a container's cgroup.
    pub fn cgroup_file(&self, id: &str, file: &str) -> String {
        fs::read_to_string(self.cgroup.containers().join(id).join(file)).unwrap()
    }

    /// Whether a process of a container is where no signal reaches it.
    pub fn waits_for_a_disk(&self, id: &str) -> bool {
        let processes = self.cgroup_file(id, "cgroup.procs");
        let mut states = processes.lines().map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")));
        states.any(|stat| stat.is_ok_and(|stat| stat.contains(") D ")))
    }

    /// Lets nobody write to disk 1, which a container must have, as long as the answer lives.
    pub fn freeze_scratch(&self) -> Frozen {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.agent.id())).unwrap();
        let folder = self.folder.path().to_str().unwrap();
        // Disk 0 is read-only.
        let scratch =
            |line: &&str| line.contains(folder) && line.contains(" - ext4 ") && line.contains(" rw");
        let line = mounts.lines().filter(|line| !line.contains(" ro")).find(scratch);
        let point = line.and_then(|line| line.split(' ').nth(4)).expect("disk 1 is not mounted");
        let frozen = Frozen(PathBuf::from(format!("/proc/{}/root{point}", self.agent.id())));
        assert!(Command::new("fsfreeze").arg("--freeze").arg(&frozen.0).status().unwrap().success());
        frozen
    }

    /// A folder of this machine that the agent sees.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The agent's open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.agent.id())).unwrap().count()
    }

    /// The agent's children, zombies included.
    pub fn children(&self) -> usize {
        let pid = self.agent.id();
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().split_whitespace().count()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Containers first: what they leave behind comes to the agent as long as there is one.
        let _ = fs::write(self.cgroup.containers().join("cgroup.kill"), "1");
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// A file system that nobody can write to.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.0).status();
    }
}

/// Runs one container in a guest of its own and gives back what it printed; its own complaints fail the test.
#[track_caller]
pub fn output(container: &Container) -> impl Future<Output = String> {
    let guest = Guest::start();
    async move {
        let ended = guest.client().await.run("c", container).await.unwrap();
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
        ended.stdout
    }
}

/// Tries to create a container that cannot be, and gives back why not.
#[track_caller]
pub fn refusal(container: &Container) -> impl Future<Output = tonic::Status> {
    let guest = Guest::start();
    async move {
        let error = guest.client().await.create_silent("c", container).await.unwrap_err();
        assert_eq!(guest.cgroups(), [""; 0]);
        error
    }
}

/// Beside this test program, where cargo puts examples.
fn program() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let built = here.parent().and_then(Path::parent).map(|folder| folder.join("examples/agent_on_host"));
    let built = built.ok_or_else(|| format!("{} is in no folder", here.display()))?;
    if built.exists() {
        return Ok(built);
    }
    let missing = built.display();
    Err(format!(
        "there is no {missing}: `cargo build --package theca-agent --example agent_on_host` makes it"
    ))
}
