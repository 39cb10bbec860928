//! The host's cgroups. Theca makes none there: a sandbox is in that of whoever started it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::bundle::NAME_PREFIX;

const ROOT: &str = "/sys/fs/cgroup";
/// How the names of those end that systemd makes.
const UNITS: [&str; 3] = [".service", ".scope", ".slice"];

/// Every cgroup of the host.
pub fn all() -> BTreeSet<PathBuf> {
    assert!(Path::new(ROOT).join("cgroup.procs").exists(), "no cgroup v2 is mounted in {ROOT}");
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        // One that has just gone has no entries.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
                found.insert(entry.path());
            }
        }
    }
    found
}

/// Those that were not there before, but for those of the bundles that runc runs and of systemd's units.
pub fn new_since(before: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let own = own();
    let by_others = |cgroup: &Path| {
        // This process may itself be in one of systemd's.
        let path = cgroup.strip_prefix(&own).unwrap_or(cgroup);
        path.iter()
            .map(|name| name.to_string_lossy())
            .any(|name| name.starts_with(NAME_PREFIX) || UNITS.iter().any(|kind| name.ends_with(kind)))
    };
    all().into_iter().filter(|cgroup| !before.contains(cgroup) && !by_others(cgroup)).collect()
}

/// The cgroup of this process.
fn own() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("failed to read this process's cgroup");
    let path =
        text.lines().find_map(|line| line.strip_prefix("0::/")).expect("this process has no cgroup v2");
    Path::new(ROOT).join(path)
}
