//! The suites that need no sandbox: checks of the source, unit tests, and the VMM on raw KVM.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::tally::{Counter, Tally};
use super::{Args, e2e};
use crate::{command, probe};

/// rustfmt changes nothing.
pub fn fmt() -> Result<Tally> {
    let mut cargo = Command::new("cargo");
    check(cargo.current_dir(command::workspace()).args(["fmt", "--all", "--check"]))
}

/// clippy has nothing to say.
pub fn clippy() -> Result<Tally> {
    check(command::cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// cargo-deny accepts every dependency, where it is installed.
pub fn deny() -> Result<Tally> {
    let installed =
        Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("cargo-deny is not installed: licences and advisories were not checked");
        return Ok(Tally::default());
    }
    let mut deny = Command::new("cargo-deny");
    check(deny.current_dir(command::workspace()).args(["--all-features", "check"]))
}

/// Unit and property tests of every crate, and of xtask itself.
pub fn unit(args: &Args) -> Result<Tally> {
    let mut others = command::cargo("test");
    others.args(["--workspace", "--exclude", "theca-tests", "--exclude", "theca-vmm", "--no-fail-fast"]);
    let mut tally = count(others.args(&args.filter))?;
    let mut vmm = command::cargo("test");
    tally +=
        count(vmm.args(["--package", "theca-vmm", "--lib", "--bins", "--no-fail-fast"]).args(&args.filter))?;
    Ok(tally)
}

/// The VMM's tests on raw KVM: here if there is a /dev/kvm at all, else in the test host.
pub fn vmm(args: &Args) -> Result<Tally> {
    if !probe::kvm_opens() {
        println!("this machine has no /dev/kvm that opens: the raw KVM tests run in the test host");
        return e2e::in_testbed(e2e::test_binaries("theca-vmm")?, Vec::new(), args);
    }
    let mut tests = command::cargo("test");
    count(tests.args(["--package", "theca-vmm", "--test", "*", "--no-fail-fast"]).args(&args.filter))
}

/// Runs a check that says what is wrong by itself.
fn check(command: &mut Command) -> Result<Tally> {
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
