//! `cargo xtask test`: everything that must hold before a change lands, in the order of what fails fastest.
//!
//! Every suite runs even if an earlier one failed; what has to run in a test host is made ready in its turn and run in the end. The last line is the sum of what the suites' own runners said; a check
//! that is no test (format, lints, licences) counts as one failure when it fails. What could not be checked on this machine is
//! told above that line and counted in it.

mod agent;
mod dependencies;
mod e2e;
mod here;
mod hosts;
mod python;
mod tally;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;

use crate::build::Profile;
use tally::Tally;

#[derive(clap::Args)]
pub struct Args {
    /// Run only these suites
    #[arg(long, value_delimiter = ',', value_name = "SUITE")]
    only: Vec<Suite>,
    /// Run what needs root or sandboxes in the test host even if this machine's KVM would do
    #[arg(long)]
    in_testbed: bool,
    #[command(flatten)]
    profile: Profile,
    /// Run only the tests whose name contains this
    filter: Option<String>,
}

/// What can be asked for with `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Formatting
    Fmt,
    /// Lints, warnings denied
    Clippy,
    /// Licences, sources and advisories of dependencies
    Deny,
    /// Unit tests and property tests
    Unit,
    /// The VMM on raw /dev/kvm with small payloads, no Linux in them
    Vmm,
    /// The fuzz targets, for a short while each
    Fuzz,
    /// The agent's containers on a test host's kernel, no VM around them
    Agent,
    /// Whole sandboxes, through the command line
    E2e,
    /// thecad, through an independent client in Python
    Python,
    /// The commands beside this one: `testbed run` and `demo`
    Xtask,
}

/// Runs `cargo xtask test`.
pub fn run(args: Args) -> Result<ExitCode> {
    let (mut tally, mut jobs) = (Tally::default(), Vec::new());
    for suite in Suite::value_variants() {
        if !args.only.is_empty() && !args.only.contains(suite) {
            continue;
        }
        eprintln!("== {} ==", format!("{suite:?}").to_lowercase());
        let done = match suite {
            Suite::Fmt => here::fmt(),
            Suite::Clippy => here::clippy(),
            Suite::Deny => dependencies::run(),
            Suite::Unit => here::unit(&args),
            Suite::Vmm => here::vmm(&args),
            Suite::Fuzz => here::fuzz(&args),
            Suite::Agent => agent::run(&args, &mut jobs),
            Suite::E2e => e2e::run(&args, &mut jobs),
            Suite::Python => python::run(&args, &mut jobs),
            Suite::Xtask => here::xtask(&args),
        };
        tally += or_failure(done);
    }
    if !jobs.is_empty() {
        eprintln!("== in test hosts ==");
        tally += or_failure(hosts::run(jobs));
    }
    println!("\n{tally}");
    Ok(if tally.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A suite that could not be run has failed.
fn or_failure(done: Result<Tally>) -> Tally {
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        Tally::failure()
    })
}
