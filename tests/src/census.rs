//! What is on the whole machine, to be compared before and after. Only for tests that run alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroups;
use crate::wait::ask_until;

/// Counts of what runtimes tend to leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Processes of Theca, by command line.
    pub processes: Vec<String>,
    /// Mount points of this mount namespace.
    pub mounts: usize,
    /// Cgroups, by their folders.
    pub cgroups: BTreeSet<PathBuf>,
    /// Bound unix sockets.
    pub sockets: usize,
    /// Entries of /tmp, /dev/shm and /run.
    pub files: usize,
}

impl Census {
    /// Counts now.
    pub fn take() -> Self {
        let read =
            |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            processes: theca_processes(),
            mounts: read("/proc/self/mountinfo").lines().count(),
            cgroups: cgroups::all(),
            // The address is the eighth column; an unbound socket has none.
            sockets: read("/proc/net/unix")
                .lines()
                .skip(1)
                .filter(|line| line.split_whitespace().count() > 7)
                .count(),
            files: ["/tmp", "/dev/shm", "/run"].iter().map(|folder| entries(Path::new(folder))).sum(),
        }
    }

    /// Waits until a count gives the same again, for the last processes go a moment after their containers.
    #[track_caller]
    pub fn comes_back(&self) {
        let same = || (Self::take() == *self).then_some(());
        if ask_until(Duration::from_secs(30), same).is_none() {
            assert_eq!(Self::take(), *self, "the machine (left) is not as it was (right)");
        }
    }
}

fn theca_processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("failed to read /proc").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let program = String::from_utf8_lossy(program);
        let name = program.rsplit('/').next().unwrap_or_default();
        if ["theca", "theca-vmm", "containerd-shim-theca-v2"].contains(&name) {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found.sort();
    found
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).into_iter().flatten().count()
}
