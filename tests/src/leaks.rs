//! What a context's containers left behind: processes and mounts that have its folders' names on them, cgroups of the host, and
//! what is in its folders although nothing runs.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{cgroups, idle};

/// Everything found that belongs to a context.
#[derive(Debug, Default)]
pub struct Leaks {
    processes: Vec<(Pid, String)>,
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Leaks {
    /// Looks for what belongs to the context with these folders, and for cgroups that the host did not have before it.
    pub fn find(root: &Path, state: &Path, cgroups_before: &BTreeSet<PathBuf>) -> Self {
        let mut files = idle::strays_of_root(root);
        files.extend(idle::strays_of_state(state));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("failed to read mountinfo");
        let ours =
            |line: &&str| line.contains(&*root.to_string_lossy()) || line.contains(&*state.to_string_lossy());
        Self {
            processes: processes(root, state),
            mounts: mounts.lines().filter(ours).map(str::to_owned).collect(),
            cgroups: cgroups::new_since(cgroups_before),
            files,
        }
    }

    /// The context's processes whose command line contains `name`.
    pub fn processes_named(root: &Path, state: &Path, name: &str) -> Vec<Pid> {
        processes(root, state)
            .into_iter()
            .filter(|(_, line)| line.contains(name))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        let Self { processes, mounts, cgroups, files } = self;
        processes.is_empty() && mounts.is_empty() && cgroups.is_empty() && files.is_empty()
    }

    /// Kills the processes, so that one failed test does not burden the next.
    pub fn clean_up(&self) {
        for (pid, _) in &self.processes {
            // Gone meanwhile is as good.
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pid, line) in &self.processes {
            writeln!(f, "  process {pid}: {line}")?;
        }
        for mount in &self.mounts {
            writeln!(f, "  mount {mount}")?;
        }
        for cgroup in &self.cgroups {
            writeln!(f, "  cgroup {}", cgroup.display())?;
        }
        for file in &self.files {
            writeln!(f, "  file or folder {}", file.display())?;
        }
        Ok(())
    }
}

/// Processes other than this one that were started with the context's folders, or have a file of them open.
fn processes(root: &Path, state: &Path) -> Vec<(Pid, String)> {
    let names = [root.to_string_lossy().into_owned(), state.to_string_lossy().into_owned()];
    let mentions = |text: &str| names.iter().any(|name| text.contains(name));
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("failed to read /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        if pid == std::process::id().cast_signed() {
            continue;
        }
        // Any of these may fail because the process ends meanwhile.
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        let links = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        let works_for_us = mentions(&line)
            || mentions(&environment)
            || targets.any(|target| mentions(&target.to_string_lossy()));
        if works_for_us {
            found.push((Pid::from_raw(pid), line));
        }
    }
    found
}
