//! thecad's figures, through its gRPC interfaces: what a client waits for, and what the daemon and its keepers hold.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use theca_proto::containerd::v1::types::Status;
use theca_tests::client::{Client, Events};

use crate::{clock, memory};

const SOCKET: &str = "/run/theca/thecad.sock";
const SANDBOX: &str = "bench";
const CONTAINER: &str = "bench-container";
const MEMORY_MIB: u64 = 64;
/// How many sandboxes `with many` means.
pub const MANY: usize = 20;
/// Pauses, and as many resumptions: each is an event.
const PAUSES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(120);

/// A thecad that serves, and one client.
pub struct Daemon {
    process: Child,
    client: Client,
    events: Events,
    /// The root of containers.
    disk: PathBuf,
    spec: Value,
}

impl Daemon {
    /// Starts one. Containers have the root of the image that [`theca`](crate::theca) has imported.
    pub fn start(bundle: &Path) -> Result<Self> {
        let text = std::fs::read(bundle.join("config.json")).context("failed to read the bundle")?;
        let mut spec: Value = serde_json::from_slice(&text)?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sleep", "1000"]);
        let mut process =
            Command::new("thecad").arg("--log").arg("error").spawn().context("failed to start thecad")?;
        let begin = Instant::now();
        let client = loop {
            match Client::connect(Path::new(SOCKET)) {
                Ok(client) => break client,
                Err(_) if begin.elapsed() < PATIENCE && process.try_wait()?.is_none() => {
                    sleep(Duration::from_millis(10));
                }
                Err(status) => bail!("thecad does not serve: {status}"),
            }
        };
        let events = Client::connect(Path::new(SOCKET))?.events()?;
        Ok(Self { process, client, events, disk: crate::theca::disk()?, spec })
    }

    /// Controller.Start → its answer, which is when the sandbox takes containers.
    pub fn sandbox_ready(&self) -> Result<f64> {
        clock::median(|| {
            self.client.create_sandbox(SANDBOX, MEMORY_MIB)?;
            let seconds = timed(|| self.client.start_sandbox(SANDBOX))?;
            self.client.shutdown_sandbox(SANDBOX)?;
            Ok(seconds)
        })
    }

    /// Makes the sandbox that the next figures are taken in.
    pub fn open(&self) -> Result<()> {
        self.client.create_sandbox(SANDBOX, MEMORY_MIB)?;
        Ok(self.client.start_sandbox(SANDBOX)?)
    }

    /// Tasks.Create and Tasks.Start of a container in a running sandbox.
    pub fn container_start(&mut self) -> Result<f64> {
        clock::median(|| {
            let seconds = self.run()?;
            self.remove()?;
            Ok(seconds)
        })
    }

    /// Tasks.Exec of `true` → Events tells its exit.
    pub fn exec(&mut self) -> Result<f64> {
        self.run()?;
        let Self { client, events, .. } = self;
        let seconds = clock::median(|| {
            let mut pid = 0;
            let seconds = timed(|| {
                pid = client.exec(CONTAINER, &["true"])?;
                events.find(|event| event.r#type == "exit" && event.pid == pid)
            })?;
            let status = client.delete_process(CONTAINER, pid)?;
            ensure!(status == 0, "true ended with {status}");
            Ok(seconds)
        })?;
        self.remove()?;
        Ok(seconds)
    }

    /// Events that one client causes, one after the other, and another one reads, in a second: pauses and resumptions.
    pub fn events_per_second(&mut self) -> Result<f64> {
        self.run()?;
        let Self { client, events, .. } = self;
        let mut told = 0;
        let seconds = timed(|| {
            for _ in 0..PAUSES {
                client.pause(CONTAINER)?;
                client.resume(CONTAINER)?;
            }
            events.find(|event| {
                told += u32::from(matches!(&*event.r#type, "pause" | "resume"));
                told == 2 * PAUSES
            })
        })?;
        self.remove()?;
        Ok((f64::from(told) / seconds).round())
    }

    /// Ends the sandbox of [`open`](Self::open).
    pub fn close(&self) -> Result<()> {
        Ok(self.client.shutdown_sandbox(SANDBOX)?)
    }

    /// Runs [`MANY`] sandboxes while `look` looks.
    pub fn with_many<T>(&self, look: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let names: Vec<String> = (0..MANY).map(|number| format!("{SANDBOX}-{number}")).collect();
        for name in &names {
            self.client.create_sandbox(name, MEMORY_MIB)?;
            self.client.start_sandbox(name)?;
        }
        let seen = look(self)?;
        for name in &names {
            self.client.shutdown_sandbox(name)?;
        }
        Ok(seen)
    }

    /// Resident memory of thecad.
    pub fn mib(&self) -> Result<f64> {
        memory::resident_mib(self.process.id().into(), None)
    }

    /// Resident memory of the keeper of the sandbox of [`open`](Self::open).
    pub fn keeper_mib(&self) -> Result<f64> {
        self.keeper_of(SANDBOX)
    }

    /// Resident memory of the largest keeper of [`with_many`](Self::with_many).
    pub fn largest_keeper_mib(&self) -> Result<f64> {
        let all = (0..MANY).map(|number| self.keeper_of(&format!("{SANDBOX}-{number}")));
        Ok(all.collect::<Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max))
    }

    fn keeper_of(&self, sandbox: &str) -> Result<f64> {
        let info = self.client.sandbox_info(sandbox)?;
        let pid = info.get("keeper_pid").with_context(|| format!("Status tells no keeper_pid: {info:?}"))?;
        memory::resident_mib(pid.parse()?, None)
    }

    /// Runs the container; seconds of Create and Start.
    fn run(&self) -> Result<f64> {
        self.client.keep(CONTAINER, SANDBOX, &self.spec)?;
        timed(|| {
            self.client.create(CONTAINER, Some(&self.disk))?;
            self.client.start(CONTAINER)
        })
    }

    fn remove(&self) -> Result<()> {
        self.client.kill(CONTAINER)?;
        while self.client.phase(CONTAINER)? != Status::Stopped {
            sleep(Duration::from_millis(5));
        }
        self.client.delete(CONTAINER)?;
        Ok(self.client.forget(CONTAINER)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn timed<T>(run: impl FnOnce() -> Result<T, tonic::Status>) -> Result<f64> {
    let begin = Instant::now();
    run()?;
    Ok(begin.elapsed().as_secs_f64())
}
