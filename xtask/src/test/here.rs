//! The suites that need no sandbox: checks of the source, unit tests, and the VMM on raw KVM.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use serde_json::Value;

use super::tally::{Counter, Tally};
use super::{Args, e2e, hosts};
use crate::{apt, build, command, probe, testbed};

const VMM: &str = "theca-vmm";
/// The package whose integration tests are the suite `agent`.
pub const AGENT: &str = "theca-agent";
const END_TO_END: &str = "theca-tests";
const XTASK: &str = "xtask";
/// What unit tests call by name: the checker of images that are written, and what makes the file systems of others.
const TOOLS: [&str; 2] = ["e2fsprogs", "erofs-utils"];
const FUZZ: &str = "fuzz";
const FUZZ_SECONDS: &str = "5";

/// rustfmt changes nothing.
pub fn fmt() -> Result<Tally> {
    let mut cargo = Command::new("cargo");
    check(cargo.current_dir(command::workspace()).args(["fmt", "--all", "--check"]))
}

/// clippy has nothing to say.
pub fn clippy() -> Result<Tally> {
    check(command::cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Unit and property tests of every crate, and of xtask itself. Of the crates that have suites of their own only what is beside
/// the code.
pub fn unit(args: &Args) -> Result<Tally> {
    apt::install(&TOOLS)?;
    let others = integration_tests(|package| ![VMM, AGENT, END_TO_END, XTASK].contains(&package))?;
    let mut tests = test(args, ["--workspace", "--exclude", END_TO_END, "--lib", "--bins"]);
    let mut tally = count(only(&mut tests, &others))?;
    // Apart, for a test that is named above would be looked for in this crate too.
    tally += count(&mut test(args, ["--package", END_TO_END, "--lib", "--bins"]))?;
    Ok(tally)
}

/// The VMM's tests on raw KVM: here if there is a /dev/kvm at all, else in the test host.
pub fn vmm(args: &Args) -> Result<Tally> {
    let tests = integration_tests(|package| package == VMM)?;
    if probe::kvm_opens() {
        return count(only(&mut test(args, ["--package", VMM]), &tests));
    }
    println!("/dev/kvm does not open on this machine: the raw KVM tests run in the test host");
    hosts::run(vec![e2e::job(&e2e::test_binaries(VMM, &tests)?, Vec::new(), args)])
}

/// Fuzz targets, which are tests named `fuzz`: a few seconds each, from a seed that each prints and takes from
/// `THECA_FUZZ_SEED`.
pub fn fuzz(args: &Args) -> Result<Tally> {
    let mut targets = test(args, ["--workspace", "--exclude", END_TO_END, "--test", FUZZ]);
    let seconds = std::env::var("THECA_FUZZ_SECONDS").unwrap_or_else(|_| FUZZ_SECONDS.into());
    count(targets.env("THECA_FUZZ_SECONDS", seconds))
}

/// `cargo xtask testbed run` and `cargo xtask demo`, each as a user calls it.
pub fn xtask(args: &Args) -> Result<Tally> {
    build::build(&args.profile)?;
    testbed::prepare()?;
    let tests = integration_tests(|package| package == XTASK)?;
    count(only(args.profile.hand_on(&mut test(args, ["--package", XTASK])), &tests))
}

fn test<const N: usize>(args: &Args, what: [&str; N]) -> Command {
    let mut cargo = command::cargo("test");
    cargo.args(what).arg("--no-fail-fast").args(&args.filter);
    cargo
}

fn only<'a>(cargo: &'a mut Command, tests: &[String]) -> &'a mut Command {
    cargo.args(tests.iter().flat_map(|test| ["--test", test]))
}

/// The names of the integration tests of packages that `wanted(package)` picks, fuzz targets never among them.
pub fn integration_tests(wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let metadata = command::output(command::cargo("metadata").args(["--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata wrote no JSON")?;
    let mut tests = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let (Some(package), Some(name)) = (package["name"].as_str(), target["name"].as_str()) else {
                continue;
            };
            if target["kind"][0] == "test" && name != FUZZ && wanted(package) {
                tests.push(name.to_owned());
            }
        }
    }
    Ok(tests)
}

/// Runs a check that says what is wrong by itself.
pub fn check(command: &mut Command) -> Result<Tally> {
    let program = command.get_program().to_owned();
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("failed to start {}", program.display()))?;
    Ok(Tally::default().ended(status.success()))
}

/// Runs a test runner, passes its output on and counts.
pub fn count(command: &mut Command) -> Result<Tally> {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    let counter = Counter::new(io::stdout());
    let mut output = child.stdout.take().context("the runner has no stdout")?;
    io::copy(&mut output, &mut counter.clone()).context("failed to read the runner's output")?;
    Ok(counter.tally().ended(child.wait()?.success()))
}
