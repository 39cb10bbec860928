//! A Theca of a test's own: the command, with folders that nobody else uses and that must be clean in the end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use tempfile::TempDir;

use crate::invocation::{Invocation, Output, Running};
use crate::leaks::Leaks;
use crate::pty::Pty;
use crate::{cgroups, fixtures, wait};

/// The image that [`Theca::new`] has: a minimal Debian.
pub const IMAGE: &str = "debian:13";

/// The context of a test. Dropping it removes its containers and asserts that nothing is left of them.
pub struct Theca {
    root: TempDir,
    state: TempDir,
    /// Those of the host when this was made.
    cgroups: BTreeSet<PathBuf>,
}

impl Theca {
    /// With [`IMAGE`] in its store. The import is done once per machine; each test gets its own copy, of hard links.
    pub fn new() -> Self {
        let theca = Self::empty();
        let template = fixtures::once(&format!("store-{}", programs_age()), |store| {
            let importing = Self::empty();
            let layout = fixtures::debian_layout();
            importing.cli(&["image", "import", "--name", IMAGE, &layout.to_string_lossy()]).success();
            copy_links(importing.root(), store);
        });
        copy_links(&template, theca.root());
        theca
    }

    /// With an empty store.
    pub fn empty() -> Self {
        // Short paths: a socket's may have 107 bytes.
        let folder = |parent: &str| {
            let folder = tempfile::Builder::new().prefix("tt-").tempdir_in(parent);
            folder.unwrap_or_else(|error| panic!("failed to make a folder in {parent}: {error}"))
        };
        Self { root: folder("/var/tmp"), state: folder("/run"), cgroups: cgroups::all() }
    }

    /// `THECA_ROOT`: images and containers.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `THECA_STATE`: what belongs to running sandboxes.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A call of `theca` with these arguments, to be refined and run.
    pub fn command(&self, args: &[impl AsRef<OsStr>]) -> Invocation {
        Invocation::new("theca", args).env("THECA_ROOT", self.root()).env("THECA_STATE", self.state())
    }

    /// Runs `theca ARGS…` to its end.
    pub fn cli(&self, args: &[impl AsRef<OsStr>]) -> Output {
        self.command(args).run()
    }

    /// Runs `theca run ARGS…` to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.cli(&[&["run"], args].concat())
    }

    /// Runs `theca exec ARGS…` to its end.
    pub fn exec(&self, args: &[&str]) -> Output {
        self.cli(&[&["exec"], args].concat())
    }

    /// Starts `theca ARGS…` and leaves it running.
    pub fn start(&self, args: &[impl AsRef<OsStr>]) -> Running {
        self.command(args).start()
    }

    /// Starts `theca ARGS…` on a terminal.
    pub fn pty(&self, args: &[impl AsRef<OsStr>]) -> Pty {
        let mut command = Command::new("theca");
        command.args(args).env("THECA_ROOT", self.root()).env("THECA_STATE", self.state());
        Pty::start(&command)
    }

    /// What `theca inspect` says of a container.
    pub fn inspect(&self, container: &str) -> Value {
        self.cli(&["inspect", container]).json()[0].take()
    }

    /// Waits until `theca logs` of the container contains this.
    pub fn wait_for_log(&self, container: &str, text: &str) {
        wait::eventually(&format!("{text:?} in the log of {container}"), || {
            self.cli(&["logs", container]).stdout.contains(text)
        });
    }

    /// What is there of this context's containers: empty when all is clean.
    pub fn leaks(&self) -> Leaks {
        Leaks::find(self.root(), self.state(), &self.cgroups)
    }

    /// Every process that works for this context, by what its command line contains.
    pub fn processes(&self, name: &str) -> Vec<nix::unistd::Pid> {
        Leaks::processes_named(self.root(), self.state(), name)
    }

    fn remove_containers(&self) {
        let listed = self.cli(&["ps", "-a", "-q"]);
        for id in listed.stdout.lines() {
            self.cli(&["rm", "-f", id]);
        }
    }

    /// The ends of the logs that explain a failure.
    fn tell_logs(&self) {
        let mut folders: Vec<PathBuf> = vec![self.state().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "log") {
                    let text = std::fs::read(&path).unwrap_or_default();
                    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4000)..]).into_owned();
                    eprintln!("--- end of {} ---\n{text}", path.display());
                }
            }
        }
    }
}

impl Default for Theca {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Theca {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_logs();
            self.remove_containers();
            self.leaks().clean_up();
            return;
        }
        self.remove_containers();
        // Removal has an answer before the last process is gone; that takes moments, not forever.
        let clean =
            wait::ask_until(std::time::Duration::from_secs(10), || self.leaks().is_empty().then_some(()));
        if clean.is_none() {
            let leaks = self.leaks();
            leaks.clean_up();
            panic!("a test left something behind:\n{leaks}");
        }
    }
}

/// Names the build of `theca` on the PATH, so that another build starts with a store of its own making.
fn programs_age() -> u128 {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path).map(|folder| folder.join("theca")).find(|path| path.is_file());
    let program = program.expect("theca is not on the PATH: run these tests through `cargo xtask test`");
    let modified =
        program.metadata().and_then(|metadata| metadata.modified()).expect("failed to look at theca");
    modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos())
}

/// Copies a folder's contents as hard links: the store replaces files, it never writes into them.
fn copy_links(from: &Path, to: &Path) {
    let mut copy = Invocation::new("cp", &["-al", "--"]).into_command();
    let done = copy.arg(from.join(".")).arg(to).status().expect("failed to start cp");
    assert!(done.success(), "failed to copy {} to {}", from.display(), to.display());
}
