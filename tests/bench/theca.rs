//! Theca's own figures, taken through its command line as a user would.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clock;

const IMAGE: &str = "bench";
const NAME: &str = "bench";
const MEMORY: &str = "128m";

/// Imports the image that everything here runs.
pub fn import(layout: &Path) -> Result<()> {
    let mut command = Command::new("theca");
    clock::output(command.args(["image", "import", "--name", IMAGE]).arg(layout))?;
    Ok(())
}

/// The disk of that image.
pub fn disk() -> Result<PathBuf> {
    let output = clock::output(Command::new("theca").args(["image", "inspect", IMAGE]))?;
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let disk =
        all[0]["Disk"].as_str().with_context(|| format!("theca image inspect tells no disk: {all}"))?;
    Ok(disk.into())
}

/// `theca run --rm … echo`, from start to end of the process.
pub fn run_echo() -> Result<f64> {
    run(&["--rm"])
}

/// The same with a writable layer on disk, as containers have that outlive their run.
pub fn run_echo_on_disk() -> Result<f64> {
    run(&["--name", "bench-disk"])
}

fn run(flags: &[&str]) -> Result<f64> {
    clock::median(|| {
        let mut command = Command::new("theca");
        command.args(["run", "--memory", MEMORY]).args(flags).args([IMAGE, "echo", "hello"]);
        let begin = std::time::Instant::now();
        let output = clock::output(&mut command)?;
        let seconds = begin.elapsed().as_secs_f64();
        ensure!(
            output.stdout == b"hello\n",
            "theca run printed {:?}",
            String::from_utf8_lossy(&output.stdout)
        );
        if !flags.contains(&"--rm") {
            clock::output(Command::new("theca").args(["rm", "bench-disk"]))?;
        }
        Ok(seconds)
    })
}

/// Start of a VMM → agent ready, as the sandbox tells it: the process starts before, as QEMU's does.
pub fn agent_ready() -> Result<f64> {
    clock::median(|| {
        let running = start()?;
        let seconds = running.inspect()?.agent_ready_s();
        running.remove()?;
        seconds
    })
}

/// A container that idles.
pub struct Running;

/// Starts one and waits until it runs.
pub fn start() -> Result<Running> {
    let mut command = Command::new("theca");
    clock::output(command.args(["run", "-d", "--name", NAME, "--memory", MEMORY, IMAGE, "sleep", "1000"]))?;
    Ok(Running)
}

impl Running {
    /// `theca exec … true`, from start to end of the process.
    pub fn exec(&self) -> Result<f64> {
        clock::median(|| clock::time(Command::new("theca").args(["exec", NAME, "true"])))
    }

    /// What `theca inspect` tells of its sandbox.
    pub fn inspect(&self) -> Result<Sandbox> {
        let output = clock::output(Command::new("theca").args(["inspect", NAME]))?;
        let all: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Sandbox(all[0]["Sandbox"].clone()))
    }

    /// Ends it.
    pub fn remove(self) -> Result<()> {
        clock::output(Command::new("theca").args(["rm", "-f", NAME]))?;
        Ok(())
    }
}

/// The `Sandbox` object of `theca inspect`.
pub struct Sandbox(Value);

impl Sandbox {
    /// The keeper begins to start a VMM → its agent says ready.
    fn agent_ready_s(&self) -> Result<f64> {
        let list = self.0["phases"].as_array().into_iter().flatten();
        let at =
            list.filter(|phase| phase["name"] == "agent_ready").find_map(|phase| phase["at_us"].as_f64());
        let at = at.with_context(|| format!("theca inspect tells no phase agent_ready: {}", self.0))?;
        Ok(at / 1e6)
    }

    /// The points of its start, in ms.
    pub fn phases(&self) -> Value {
        let list = self.0["phases"].as_array().into_iter().flatten();
        list.map(
            |phase| json!({"name": phase["name"], "at_ms": phase["at_us"].as_f64().unwrap_or(0.0) / 1e3}),
        )
        .collect()
    }

    /// Process id of its VMM.
    pub fn vmm_pid(&self) -> Result<u64> {
        self.number("vmm_pid")
    }

    /// Process id of its keeper.
    pub fn keeper_pid(&self) -> Result<u64> {
        self.number("keeper_pid")
    }

    /// RAM of its guest.
    pub fn memory_mib(&self) -> Result<u64> {
        self.number("memory_mib")
    }

    /// A field in bytes, as MiB.
    pub fn mib(&self, key: &str) -> Result<f64> {
        Ok((self.number(key)? as f64 / 1048576.0 * 100.0).round() / 100.0)
    }

    fn number(&self, key: &str) -> Result<u64> {
        self.0[key].as_u64().with_context(|| format!("theca inspect tells no {key}: {}", self.0))
    }
}
