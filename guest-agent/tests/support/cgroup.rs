//! The part of this machine's cgroup v2 tree that one agent has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where cgroup v2 is, on distributions of today and yesterday.
const TOPS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What tests limit. A guest's agent has all of the tree; here the top must hand them down.
const CONTROLLERS: &str = "+cpu +memory +pids";

/// A cgroup. Dropping it ends what runs below `containers` and removes all of it.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one that is called after the agent's folder.
    pub fn make(folder: &Path) -> Result<Self, String> {
        let top = TOPS.iter().find(|path| Path::new(path).join("cgroup.controllers").exists());
        let top = top.ok_or_else(|| {
            format!("cgroup v2 is mounted at none of {TOPS:?}: mount -t cgroup2 cgroup2 {}", TOPS[0])
        })?;
        let handed_down = Path::new(top).join("cgroup.subtree_control");
        fs::write(&handed_down, CONTROLLERS).map_err(|error| {
            let file = handed_down.display();
            format!("failed to write {CONTROLLERS:?} to {file}: {error}; all three must be controllers of cgroup v2")
        })?;
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("agent").replace('.', "");
        let path = Path::new(top).join(format!("theca-test-{name}"));
        fs::create_dir(&path).map_err(|error| format!("failed to make {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All containers together.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let containers = self.containers();
        let _ = fs::write(containers.join("cgroup.kill"), "1");
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
        let _ = fs::remove_dir(&self.0);
    }
}
