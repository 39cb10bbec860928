//! What a context's containers left behind: processes, mounts, sockets and files that have its folders' names on them.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Everything found that belongs to a context.
#[derive(Debug, Default)]
pub struct Leaks {
    processes: Vec<(Pid, String)>,
    mounts: Vec<String>,
    files: Vec<PathBuf>,
}

impl Leaks {
    /// Looks for what belongs to the context with these folders.
    pub fn find(root: &Path, state: &Path) -> Self {
        let mut files = files_below(state);
        files.extend(["containers", "names"].iter().flat_map(|folder| files_below(&root.join(folder))));
        // The locks of the names and of thecad are nobody's in particular.
        let locks = [root.join("names/.lock"), state.join("thecad.lock")];
        // What readers of events may not have got is kept for the next thecad to tell.
        let events = |file: &PathBuf| file.starts_with(state.join(".thecad")) && file.ends_with("events.log");
        files.retain(|file| !locks.contains(file) && !events(file));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("failed to read mountinfo");
        let ours =
            |line: &&str| line.contains(&*root.to_string_lossy()) || line.contains(&*state.to_string_lossy());
        Self {
            processes: processes(root, state),
            mounts: mounts.lines().filter(ours).map(str::to_owned).collect(),
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
        self.processes.is_empty() && self.mounts.is_empty() && self.files.is_empty()
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
        for file in &self.files {
            writeln!(f, "  file {}", file.display())?;
        }
        Ok(())
    }
}

/// Everything below a folder that is no folder itself (sockets and FIFOs included).
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
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
