//! A guest for tests: the agent as a process of this machine, with a disk that holds busybox, and a client of its services.
//!
//! It needs root, loop devices, cgroup v2 somewhere, `mke2fs`, `losetup` and a static busybox. Where one is missing
//! [`Guest::start`] says which, and the test is passed over.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod client;
mod disk;
mod specs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use client::{Client, Ended, Io};
pub use disk::Disk;
pub use specs::Container;

/// Where cgroup v2 is, on distributions of today and yesterday.
const CGROUPS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A running agent. Dropping it ends all containers and leaves nothing.
pub struct Guest {
    agent: Child,
    folder: tempfile::TempDir,
    cgroup: PathBuf,
    _disks: [Disk; 2],
}

impl Guest {
    /// Starts an agent, or says why that cannot be done here.
    pub fn start() -> Option<Self> {
        match Self::try_start() {
            Ok(guest) => Some(guest),
            Err(reason) => {
                eprintln!("skipped: {reason}");
                None
            }
        }
    }

    fn try_start() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root".into());
        }
        let top = CGROUPS.iter().find(|path| Path::new(path).join("cgroup.controllers").exists());
        let top = top.ok_or("cgroup v2 is not mounted")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let name =
            folder.path().file_name().and_then(|name| name.to_str()).unwrap_or("agent").replace('.', "");
        let cgroup = Path::new(top).join(format!("theca-test-{name}"));
        fs::create_dir(&cgroup).map_err(|error| format!("{}: {error}", cgroup.display()))?;
        let disks = [Disk::busybox(folder.path())?, Disk::scratch(folder.path())?];
        let agent = Command::new(program()?).arg(folder.path()).arg(&cgroup).stdin(Stdio::null()).spawn();
        let agent = agent.map_err(|error| error.to_string())?;
        let guest = Self { agent, folder, cgroup, _disks: disks };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(guest.folder.path().join("agent.sock")).is_err() {
            assert!(Instant::now() < deadline, "the agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(guest)
    }

    /// A client of its services.
    pub async fn client(&self) -> Client {
        Client::connect(self.folder.path()).await
    }

    /// Whether containers can be limited here: this machine may keep some controllers in cgroup v1.
    pub fn has_controller(&self, name: &str) -> bool {
        let controllers =
            fs::read_to_string(self.cgroup.join("containers/cgroup.controllers")).unwrap_or_default();
        controllers.split_whitespace().any(|controller| controller == name)
    }

    /// The cgroups of containers that are there.
    pub fn cgroups(&self) -> Vec<String> {
        let entries = fs::read_dir(self.cgroup.join("containers")).unwrap().flatten();
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
        let containers = self.cgroup.join("containers");
        let _ = fs::write(containers.join("cgroup.kill"), "1");
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        let populated = || {
            fs::read_to_string(containers.join("cgroup.events")).unwrap_or_default().contains("populated 1")
        };
        while populated() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        for entry in fs::read_dir(&containers).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&containers);
        let _ = fs::remove_dir(&self.cgroup);
    }
}

/// Beside this test program, where cargo puts examples.
fn program() -> Result<PathBuf, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let built = here.parent().and_then(Path::parent).map(|folder| folder.join("examples/agent_on_host"));
    let beside = here.parent().map(|folder| folder.join("agent_on_host"));
    let found = built.into_iter().chain(beside).find(|path| path.exists());
    found.ok_or_else(|| "cargo build --package theca-agent --example agent_on_host has not been run".into())
}
