//! The independent client, `tests/python`: what needs no thecad on this machine, everything else in a test host, which has a
//! thecad of its own and nothing beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Args;
use super::here::count;
use super::tally::Tally;
use crate::build;
use crate::testbed::{self, Copy, Job};
use crate::{apt, command};

/// The folder of tests that need no thecad.
const OFFLINE: &str = "offline";
/// Pages with examples.
const PAGES: &str = "docs/interfaces";
/// Run in the test host: the daemon, then the tests.
const SCRIPT: &str = include_str!("python.sh");
/// Where the client is in the test host.
const CLIENT: &str = "/opt/client";
const TIME_LIMIT: Duration = Duration::from_secs(2700);
const MEMORY_MIB: u32 = 6144;

/// Runs what needs no thecad; the rest becomes one of `jobs`.
pub fn run(args: &Args, jobs: &mut Vec<Job>) -> Result<Tally> {
    apt::install(&["python3", "python3-venv"])?;
    let tally = offline(args)?;
    jobs.extend(with_thecad(args)?);
    Ok(tally)
}

fn offline(args: &Args) -> Result<Tally> {
    let mut run = std::process::Command::new("sh");
    // unittest writes to standard error.
    run.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(folder().join("run")).arg(OFFLINE);
    count(run.args(selection(args)))
}

fn with_thecad(args: &Args) -> Result<Option<Job>> {
    let tests = folders()?;
    if tests.is_empty() {
        return Ok(None);
    }
    let programs = build::build(&args.profile)?;
    let mut setup = std::process::Command::new(folder().join("setup"));
    let version = testbed::python()?;
    let prepared = command::output(setup.args(["--site", &version]))?;
    let prepared = Path::new(prepared.trim());
    let mut with: Vec<_> = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect();
    for (from, name) in [
        (prepared.join(format!("site-{version}")), "site"),
        (prepared.join("stubs"), "stubs"),
        (folder().join("theca_client"), "theca_client"),
        // Their examples are run.
        (command::workspace().join(PAGES), PAGES),
    ] {
        with.push(Copy::new(from, format!("{CLIENT}/{name}")));
    }
    for tests in tests {
        let name = tests.file_name().unwrap_or_default().to_owned();
        with.push(Copy::new(&tests, Path::new(CLIENT).join("tests").join(name)));
    }
    let mut command: Vec<String> = ["sh", "-c", SCRIPT, "python"].map(str::to_owned).into();
    command.extend(selection(args));
    Ok(Some(Job {
        command,
        with,
        out: Vec::new(),
        icount: false,
        memory_mib: MEMORY_MIB,
        timeout: TIME_LIMIT,
    }))
}

/// The filter as unittest takes it.
fn selection(args: &Args) -> Vec<String> {
    args.filter.iter().flat_map(|filter| ["-k".to_owned(), filter.clone()]).collect()
}

/// Folders of tests that need a thecad.
fn folders() -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder()).context("failed to read tests/python")? {
        let path = entry?.path();
        if path.is_dir() && path.file_name() != Some(OFFLINE.as_ref()) && has_tests(&path)? {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn has_tests(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if entry?.file_name().to_string_lossy().starts_with("test_") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn folder() -> PathBuf {
    command::workspace().join("tests/python")
}
