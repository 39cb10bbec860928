//! A thecad of a test's own, which can be killed and started again.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::invocation::{Invocation, Running};
use crate::theca::Theca;
use crate::wait::wait_for;

/// thecad with the folders of a [`Theca`].
pub struct Thecad {
    root: PathBuf,
    state: PathBuf,
    running: Running,
}

impl Thecad {
    /// Starts it and waits until it serves.
    pub fn start(theca: &Theca) -> Self {
        let (root, state) = (theca.root().to_owned(), theca.state().to_owned());
        let running = spawn(&root, &state);
        let thecad = Self { root, state, running };
        thecad.client();
        thecad
    }

    /// Its main socket.
    pub fn socket(&self) -> PathBuf {
        self.state.join("thecad.sock")
    }

    /// A connection to it.
    pub fn client(&self) -> Client {
        wait_for("thecad to serve", || Client::connect(&self.socket()).ok())
    }

    /// `kill -9`, and a new one that serves.
    pub fn kill_and_start_again(&mut self) {
        self.running.signal(Signal::SIGKILL);
        // The old one is reaped as it is dropped.
        self.running = spawn(&self.root, &self.state);
        self.client();
    }

    /// Resident memory in KiB.
    pub fn kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.pid()));
        let status = status.expect("thecad has ended");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("no VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number")
    }

    /// Asks it to end.
    #[track_caller]
    pub fn stop(self) {
        self.running.signal(Signal::SIGTERM);
        self.running.wait().exits(0);
    }
}

fn spawn(root: &Path, state: &Path) -> Running {
    Invocation::new("thecad", &["--log", "warn"]).env("THECA_ROOT", root).env("THECA_STATE", state).start()
}
