//! End-to-end tests: the crate `theca-tests`, run as root where sandboxes run.
//!
//! Its binaries are static, so they run in the test host as they were built here. What they need beside Theca (peers,
//! image tools, a Debian image and a bundle) is in the test host's root, and is installed and made here for this machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Args;
use super::here::count;
use super::tally::Tally;
use crate::build::{self, InstallTree};
use crate::cache::{self, Key};
use crate::probe::Place;
use crate::testbed::{Copy, Job};
use crate::{apt, command, image, progress};

/// What the tests call by name.
const TOOLS: [&str; 13] = [
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
    "systemd",
    "umoci",
];
/// Test binaries that take long, by the test host that they share. The first two take about as long as all that are not named here;
/// the stories go to the lane that has room.
const LONG: [&[&str]; 2] = [&["load", "node_load"], &["model"]];
/// Settings of tests by environment variables, which a test host gets too: how much load, which seed.
const SETTINGS: [&str; 2] = ["THECA_LOAD_", "THECA_MODEL_"];
const TIME_LIMIT: Duration = Duration::from_secs(2700);
const MEMORY_MIB: u32 = 6144;

/// Builds everything and runs the tests; what is to run in test hosts joins `jobs`, the long tests apart.
pub fn run(args: &Args, jobs: &mut Vec<Job>) -> Result<Tally> {
    let programs = build::build(&args.profile)?;
    let tests = test_binaries("theca-tests", &["*"])?;
    match Place::find() {
        Place::Here if !args.in_testbed => on_this_machine(&tests, &programs, args),
        _ => {
            let with: Vec<_> = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect();
            let mut others = tests;
            let long = LONG.map(|names| -> Vec<_> {
                others.extract_if(.., |binary| names.contains(&test(binary))).collect()
            });
            let hosts = std::iter::once(others).chain(long);
            jobs.extend(hosts.map(|tests| job(&tests, with.clone(), args)));
            Ok(Tally::default())
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

/// Test binaries to be run one after the other in one test host.
pub fn job(binaries: &[PathBuf], mut with: Vec<Copy>, args: &Args) -> Job {
    let folder = Path::new("/root/tests");
    with.extend(binaries.iter().map(|binary| Copy::new(binary, folder.join(name(binary)))));
    // Their names are cargo's: words with a hash behind.
    let script = "code=0; for test in /root/tests/*; do echo; echo \"Running ${test##*/}\"; \"$test\" \"$@\" || code=1; done; exit $code";
    let mut command: Vec<String> = vec!["env".to_owned()];
    command.extend(settings());
    command.extend(["sh", "-c", script, "tests"].map(str::to_owned));
    command.extend(args.filter.clone());
    Job { command, with, out: Vec::new(), icount: false, memory_mib: MEMORY_MIB, timeout: TIME_LIMIT }
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
