//! A thecad of a test's own, which can be killed and started again.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::invocation::{Invocation, Running};
use crate::theca::Theca;
use crate::wait::{eventually, wait_for};

/// thecad with the folders of a [`Theca`].
pub struct Thecad {
    root: PathBuf,
    state: PathBuf,
    settings: Vec<String>,
    running: Running,
}

impl Thecad {
    /// Starts it and waits until it serves.
    pub fn start(theca: &Theca) -> Self {
        Self::start_with(theca, &[])
    }

    /// Starts it with these settings.
    pub fn start_with(theca: &Theca, settings: &[&str]) -> Self {
        let (root, state) = (theca.root().to_owned(), theca.state().to_owned());
        let settings: Vec<_> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let running = spawn(&root, &state, &settings);
        let thecad = Self { root, state, settings, running };
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
        self.kill();
        self.start_again();
    }

    /// `kill -9`: answers when it is gone.
    pub fn kill(&mut self) {
        self.running.signal(Signal::SIGKILL);
        eventually("thecad to be gone", || self.running.has_ended());
    }

    /// A new one, which serves, in the place of one that has ended.
    pub fn start_again(&mut self) {
        self.running = spawn(&self.root, &self.state, &self.settings);
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

fn spawn(root: &Path, state: &Path, settings: &[String]) -> Running {
    let thecad = Invocation::new("thecad", &["--log", "warn"]).args(settings);
    thecad.env("THECA_ROOT", root).env("THECA_STATE", state).start()
}
