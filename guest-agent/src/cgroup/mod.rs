//! The guest's cgroup v2 tree.
//!
//! ```text
//!   <root>/agent             the agent, with memory that reclaim leaves alone
//!   <root>/containers        all containers together: never so many processes that the agent cannot fork
//!   <root>/containers/<id>   one container; what it sees as the root of its cgroup namespace
//! ```
//!
//! The spec's `linux.cgroupsPath` names a cgroup of the host and means nothing here; the place is the agent's choice.

pub mod device_filter;
pub mod device_rules;
pub mod events;
pub mod resources;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use self::device_rules::DeviceRules;
use self::events::EventFile;
use self::resources::Setting;
use crate::sys::bpf;

/// Controllers that containers get, as far as the kernel has them.
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma"];

/// What the kernel may take to stop or end the processes of a container.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or folder of the tree did not do as asked.
    #[error("failed to {action} {path}")]
    Io {
        /// Such as `read`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a setting.
    #[error("failed to set {file} to {value:?}")]
    Set {
        /// Such as `memory.max`.
        file: String,
        /// As written.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel has no such setting.
    #[error("{file} is not supported: the guest kernel lacks its controller")]
    NoController {
        /// Such as `hugetlb.2MB.max`.
        file: String,
    },
    /// An update asked to be refused rather than to end processes.
    #[error(
        "memory is not limited to {limit} bytes, for {used} bytes are in use: free some, choose a higher limit, or leave out \
         checkBeforeUpdate"
    )]
    InUse {
        /// As asked.
        limit: u64,
        /// As counted.
        used: u64,
    },
    /// The kernel refused the device filter.
    #[error("failed to attach the device filter")]
    DeviceFilter(#[source] io::Error),
    /// Processes did not stop, start or end.
    #[error("the processes of {path} did not {action} within {PATIENCE:?}")]
    Timeout {
        /// Such as `freeze`.
        action: &'static str,
        /// Which cgroup.
        path: PathBuf,
    },
}

type Result<T> = std::result::Result<T, CgroupError>;

/// The folder that containers' cgroups are in.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Sets up `root`, the top of a cgroup v2 tree or an empty part of one, for containers.
    pub fn set_up(root: &Path) -> Result<Self> {
        let tree = Self { root: root.to_owned() };
        let containers = tree.containers();
        for folder in [root, &containers] {
            make_folder(folder)?;
            enable_controllers(folder)?;
        }
        // A fork bomb runs into this before the guest runs out of processes.
        let pids = containers.join("pids.max");
        if let Some(limit) = process_limit().filter(|_| pids.exists()) {
            write(&pids, &limit.to_string())?;
        }
        Ok(tree)
    }

    /// Moves the caller out of the root and keeps `memory` bytes from being reclaimed from it.
    pub fn adopt_agent(&self, memory: u64) -> Result<()> {
        let agent = self.root.join("agent");
        make_folder(&agent)?;
        write(&agent.join("cgroup.procs"), "0")?;
        let reserve = agent.join("memory.min");
        if reserve.exists() {
            write(&reserve, &memory.to_string())?;
        }
        Ok(())
    }

    /// Makes a container's cgroup; `id` is a plain file name. It must not be there yet.
    pub fn create(&self, id: &str) -> Result<Cgroup> {
        let path = self.containers().join(id);
        fs::create_dir(&path).map_err(|source| CgroupError::Io {
            action: "make",
            path: path.clone(),
            source,
        })?;
        Ok(Cgroup { path })
    }

    /// Where the cgroup of all containers together is.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The cgroup of all containers together.
    pub fn of_all(&self) -> Cgroup {
        Cgroup { path: self.containers() }
    }
}

/// A container's cgroup. Dropping it leaves the folder: [`Cgroup::remove`] reports what goes wrong.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder, for a process to be born in.
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|source| CgroupError::Io {
            action: "open",
            path: self.path.clone(),
            source,
        })
    }

    /// Writes settings in their order and stops at the first that fails.
    pub fn apply(&self, settings: &[Setting]) -> Result<()> {
        for Setting { file, value } in settings {
            let path = self.path.join(file);
            let written = OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut out| out.write_all(value.as_bytes()));
            written.map_err(|source| match source.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied if !path.exists() => {
                    CgroupError::NoController { file: file.clone() }
                }
                _ => CgroupError::Set { file: file.clone(), value: value.clone(), source },
            })?;
        }
        Ok(())
    }

    /// Limits devices.
    pub fn filter_devices(&self, rules: &DeviceRules) -> Result<()> {
        let program =
            bpf::load_device_filter(&device_filter::compile(rules)).map_err(CgroupError::DeviceFilter)?;
        bpf::attach_device_filter(self.open()?.as_fd(), program.as_fd()).map_err(CgroupError::DeviceFilter)
    }

    /// Reads a file whole.
    pub fn read(&self, file: &str) -> Result<String> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|source| CgroupError::Io { action: "read", path, source })
    }

    /// The processes in it and below it.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        for folder in folders(&self.path)? {
            let path = folder.join("cgroup.procs");
            match fs::read_to_string(&path) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw)),
                // The container itself may remove folders, or have made threaded ones.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {}
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(source) => return Err(CgroupError::Io { action: "read", path, source }),
            }
        }
        pids.sort();
        pids.dedup();
        Ok(pids)
    }

    /// How many of its processes the kernel has killed for memory; `None` without the memory controller.
    pub fn oom_kills(&self) -> Option<u64> {
        events::value(&self.read("memory.events").ok()?, "oom_kill")
    }

    /// Refuses a limit of memory that is less than what is in use.
    pub fn fits_below(&self, limit: u64) -> Result<()> {
        let used = self.read("memory.current")?.trim().parse().unwrap_or(0);
        if used > limit { Err(CgroupError::InUse { limit, used }) } else { Ok(()) }
    }

    /// Stops all processes; answers when they have stopped.
    pub async fn freeze(&self) -> Result<()> {
        self.set_frozen("1").await
    }

    /// Lets all processes go on; answers when they do.
    pub async fn thaw(&self) -> Result<()> {
        self.set_frozen("0").await
    }

    async fn set_frozen(&self, wanted: &'static str) -> Result<()> {
        let action = if wanted == "1" { "freeze" } else { "thaw" };
        write(&self.path.join("cgroup.freeze"), wanted)?;
        self.wait("frozen", wanted, action).await
    }

    /// Sends SIGKILL to all processes, frozen ones and those that are being forked too. They may take a while to end.
    pub fn kill(&self) -> Result<()> {
        write(&self.path.join("cgroup.kill"), "1")
    }

    /// Kills all processes and waits until the last one is gone.
    pub async fn end(&self) -> Result<()> {
        self.kill()?;
        self.wait("populated", "0", "end").await
    }

    async fn wait(&self, key: &str, wanted: &str, action: &'static str) -> Result<()> {
        let path = self.path.join("cgroup.events");
        let io = |source| CgroupError::Io { action: "watch", path: path.clone(), source };
        let mut file = EventFile::open(&path).map_err(io)?;
        let reached = async {
            loop {
                let text = file.read().map_err(io)?;
                if events::value(&text, key).is_some_and(|value| value.to_string() == wanted) {
                    return Ok(());
                }
                file.changed().await.map_err(io)?;
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(result) => result,
            Err(_) => Err(CgroupError::Timeout { action, path: self.path.clone() }),
        }
    }

    /// Removes the folder and what the container made below it. All processes must have ended.
    pub fn remove(&self) -> Result<()> {
        for folder in folders(&self.path)?.into_iter().rev() {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(CgroupError::Io { action: "remove", path: folder, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A folder and all below it, parents first. A container can nest them as deep as it likes: no recursion.
fn folders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = vec![path.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(CgroupError::Io { action: "list", path: folder, source }),
        };
        let children = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(children.map(|entry| entry.path()));
    }
    Ok(folders)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| CgroupError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    })
}

/// Hands what controllers there are down to the folders below, all at once: every change of the set makes the kernel wait
/// for all processors. Where some cannot be had (they may be in use as cgroup v1) the others are still tried for; one
/// that is not there is missed when it is asked for.
fn enable_controllers(folder: &Path) -> Result<()> {
    let path = folder.join("cgroup.controllers");
    let available =
        fs::read_to_string(&path).map_err(|source| CgroupError::Io { action: "read", path, source })?;
    let wanted: Vec<_> = available.split_whitespace().filter(|name| CONTROLLERS.contains(name)).collect();
    let control = folder.join("cgroup.subtree_control");
    let all: String = wanted.iter().map(|name| format!("+{name} ")).collect();
    if write(&control, &all).is_ok() {
        return Ok(());
    }
    for controller in wanted {
        if let Err(error) = write(&control, &format!("+{controller}")) {
            tracing::warn!(
                controller,
                error = &error as &dyn std::error::Error,
                "controller is not available"
            );
        }
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> Result<()> {
    let written =
        OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Io { action: "write", path: path.to_owned(), source })
}

/// Seven eighths of what the kernel can run.
fn process_limit() -> Option<u64> {
    let read = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let all = read("/proc/sys/kernel/threads-max")?.min(read("/proc/sys/kernel/pid_max")?);
    Some(all - all / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_sent_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in [("cgroup.kill", ""), ("cgroup.events", "populated 1\nfrozen 0\n")] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let cgroup = Cgroup { path: folder.path().to_owned() };
        cgroup.kill().unwrap();
        assert_eq!(cgroup.read("cgroup.kill").unwrap(), "1");
    }
}
