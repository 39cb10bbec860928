//! End-to-end tests: the crate `theca-tests`, run as root where sandboxes run.
//!
//! Its binaries are static, so they run in the test host as they were built here. What they need beside Theca (peers,
//! image tools, a Debian image and a bundle) is in the test host's root, and is installed and made here for this machine.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Args;
use super::here::count;
use super::tally::{Counter, Tally};
use crate::build::{self, InstallTree};
use crate::cache::{self, Key};
use crate::probe::Place;
use crate::testbed::{self, Copy, Job};
use crate::{apt, command, image, progress};

/// What the tests call by name.
const TOOLS: [&str; 12] = [
    "attr",
    "busybox-static",
    "crun",
    "curl",
    "docker-registry",
    "e2fsprogs",
    "libcap2-bin",
    "openssl",
    "procps",
    "runc",
    "skopeo",
    "umoci",
];
/// Test binaries that together take about as long as all others, most of it waiting for one sandbox after the other.
const LONG: [&str; 2] = ["load", "node_load"];
/// Settings of tests by environment variables, which a test host gets too: how much load, which seed.
const SETTINGS: [&str; 2] = ["THECA_LOAD_", "THECA_MODEL_"];
const TIME_LIMIT: Duration = Duration::from_secs(2700);
const MEMORY_MIB: u32 = 6144;

/// Builds everything and runs the tests.
pub fn run(args: &Args) -> Result<Tally> {
    let programs = build::build(&args.profile)?;
    let tests = test_binaries("theca-tests", &["*"])?;
    match Place::find() {
        Place::Here if !args.in_testbed => on_this_machine(&tests, &programs, args),
        _ => {
            let programs = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect();
            in_testbed(tests, programs, args)
        }
    }
}

/// Builds integration tests of a package, each a name or pattern, and gives their binaries.
pub fn test_binaries(package: &str, tests: &[impl AsRef<str>]) -> Result<Vec<PathBuf>> {
    let mut cargo = command::cargo("test");
    cargo.args(["--package", package, "--no-run", "--message-format", "json-render-diagnostics"]);
    cargo.args(tests.iter().flat_map(|test| ["--test", test.as_ref()]));
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("failed to start cargo")?;
    if !output.status.success() {
        bail!("the tests of {package} do not build");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = artifacts.filter(|message| message["profile"]["test"] == true);
    let mut binaries: Vec<_> =
        tests.filter_map(|test| Some(PathBuf::from(test["executable"].as_str()?))).collect();
    binaries.sort();
    Ok(binaries)
}

/// Runs test binaries in two test hosts side by side, the long ones and the others, for a test host uses one of this machine's
/// CPUs. What the second prints is shown when the first has ended.
pub fn in_testbed(binaries: Vec<PathBuf>, with: Vec<Copy>, args: &Args) -> Result<Tally> {
    testbed::prepare()?;
    let (second, first) = binaries.into_iter().partition::<Vec<_>, _>(|binary| LONG.contains(&test(binary)));
    let later = Spool::default();
    thread::scope(|scope| {
        let second = scope.spawn(|| in_one_testbed(&second, with.clone(), args, later.clone()));
        let first = in_one_testbed(&first, with.clone(), args, io::stdout());
        let second = second.join().unwrap_or_else(|_| bail!("the second test host's thread panicked"));
        io::stdout().write_all(&later.take())?;
        let mut tally = first?;
        tally += second?;
        Ok(tally)
    })
}

/// Runs test binaries one after the other in one test host.
pub fn in_one_testbed(
    binaries: &[PathBuf],
    mut with: Vec<Copy>,
    args: &Args,
    onward: impl Write + Send + 'static,
) -> Result<Tally> {
    if binaries.is_empty() {
        return Ok(Tally::default());
    }
    let folder = Path::new("/root/tests");
    with.extend(binaries.iter().map(|binary| Copy::new(binary, folder.join(name(binary)))));
    // Their names are cargo's: words with a hash behind.
    let script = "code=0; for test in /root/tests/*; do echo; echo \"Running ${test##*/}\"; \"$test\" \"$@\" || code=1; done; exit $code";
    let mut command: Vec<String> = vec!["env".to_owned()];
    command.extend(settings());
    command.extend(["sh", "-c", script, "tests"].map(str::to_owned));
    command.extend(args.filter.clone());
    let job =
        Job { command, with, out: Vec::new(), icount: false, memory_mib: MEMORY_MIB, timeout: TIME_LIMIT };
    let counter = Counter::new(onward);
    let code = testbed::execute_into(&job, counter.clone())?;
    Ok(counter.tally().ended(code == 0))
}

/// Keeps what is written until it is taken. Clones share it.
#[derive(Clone, Default)]
struct Spool(Arc<Mutex<Vec<u8>>>);

impl Spool {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Installs what the tests need beside Theca and runs them, with the programs of the install tree first on the PATH.
fn on_this_machine(binaries: &[PathBuf], programs: &InstallTree, args: &Args) -> Result<Tally> {
    apt::install(&TOOLS)?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("PATH={}:{path}:/usr/sbin:/sbin", programs.folder().join("bin").display());
    let fixtures = format!("THECA_TEST_FIXTURES={}", fixtures()?.display());
    as_root(binaries, &[path, fixtures], args)
}

/// Runs test binaries as root on this machine, each with these variables beside its environment.
pub fn as_root(binaries: &[PathBuf], variables: &[String], args: &Args) -> Result<Tally> {
    let mut tally = Tally::default();
    for binary in binaries {
        println!("\nRunning {}", name(binary));
        let mut test = command::as_root("env");
        tally += count(test.args(variables).arg(binary).args(&args.filter))?;
    }
    Ok(tally)
}

/// The same files as the test host has in /var/lib/theca-testbed.
fn fixtures() -> Result<PathBuf> {
    let image = image::debian()?;
    cache::entry(
        "fixtures",
        Key::new(1).with(image.file_name().unwrap_or_default().as_encoded_bytes()),
        |folder| {
            progress::step("unpacking the tests' bundle", || {
                let rootfs = folder.join("bundle/rootfs");
                std::fs::create_dir_all(&rootfs)?;
                command::quietly(
                    command::as_root("tar").arg("-xf").arg(image.join("root.tar")).arg("-C").arg(&rootfs),
                )?;
                command::quietly(
                    command::as_root("runc").arg("spec").arg("--bundle").arg(folder.join("bundle")),
                )?;
                command::quietly(
                    command::as_root("cp").arg("-a").arg(image.join("layout")).arg(folder.join("debian")),
                )
            })
        },
    )
}

/// This process's own settings of tests, as `env` takes them.
fn settings() -> impl Iterator<Item = String> {
    let ours = |name: &str| SETTINGS.iter().any(|prefix| name.starts_with(prefix));
    std::env::vars().filter(move |(name, _)| ours(name)).map(|(name, value)| format!("{name}={value}"))
}

/// The test's name, which cargo has put a hash behind.
fn test(binary: &Path) -> &str {
    let name = binary.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(test, _)| test)
}

fn name(binary: &Path) -> String {
    binary.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
