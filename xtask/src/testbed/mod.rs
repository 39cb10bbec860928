//! `cargo xtask testbed run -- CMD…`: any command on a machine with KVM, wherever this runs.
//!
//! The test host is QEMU's software CPU with AMD-V switched on, a stock Debian kernel with kvm-amd, and a Debian root
//! (`base.rs`). Every run boots a fresh one in a few seconds: the root is shared and never written to, programs and
//! files go in as a tar archive on a second disk, results come out as one on a third (`freight.rs`), and the standard
//! streams are virtio-serial ports (`session.rs`). Runs need no ports, names or writable files in common, so any number
//! may run at once.

mod base;
mod freight;
mod pulse;
mod qemu;
mod session;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;

use crate::build::{self, Profile};
use base::Base;
pub use freight::Copy;
use session::Outcome;

/// The command took longer than it was given, as timeout(1) says it.
const EXIT_TIMEOUT: u8 = 124;
/// The test host itself failed.
const EXIT_BROKEN: u8 = 125;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command as root in a fresh test host, with the project's programs on its PATH
    Run(RunArgs),
    /// Fetch and build what test hosts are made of, and stop there
    Prepare,
}

#[derive(clap::Args)]
struct RunArgs {
    /// Copy a file or folder in; DST defaults to its name in the command's working folder, /root
    #[arg(long = "with", value_name = "SRC[:DST]")]
    with: Vec<String>,
    /// Copy a file or folder out when the command has ended; DST defaults to its name in this folder
    #[arg(long = "out", value_name = "SRC[:DST]")]
    out: Vec<String>,
    /// One CPU whose clock counts instructions: figures measured inside repeat, whatever else this machine does
    #[arg(long)]
    icount: bool,
    /// The test host's memory
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u32,
    /// Give up after this many seconds, with exit code 124
    #[arg(long, value_name = "S", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    profile: Profile,
    /// Take the programs as they were last built
    #[arg(long)]
    no_build: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What to run in a test host, and how.
pub struct Job {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Copied in before the command starts.
    pub with: Vec<Copy>,
    /// Copied out after it has ended.
    pub out: Vec<Copy>,
    /// Whether the clock counts instructions.
    pub icount: bool,
    /// The test host's memory.
    pub memory_mib: u32,
    /// How long the whole run may take.
    pub timeout: Duration,
}

/// Runs `cargo xtask testbed …`; the exit code is the command's own.
pub fn run(args: Args) -> ExitCode {
    let code = match args.verb {
        Verb::Prepare => Base::prepare().map(|_| 0),
        Verb::Run(args) => run_command(args),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        eprintln!("testbed: {error:#}");
        EXIT_BROKEN
    }))
}

fn run_command(args: RunArgs) -> Result<u8> {
    let programs = if args.no_build { build::as_built(&args.profile)? } else { build::build(&args.profile)? };
    let mut with = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect::<Vec<_>>();
    for copy in &args.with {
        with.push(Copy::into_host(copy)?);
    }
    let job = Job {
        command: args.command,
        with,
        out: args.out.iter().map(|copy| Copy::out_of_host(copy)).collect::<Result<_>>()?,
        icount: args.icount,
        memory_mib: args.memory,
        timeout: Duration::from_secs(args.timeout),
    };
    execute(&job)
}

/// Makes what test hosts are made of, where it is not there yet.
pub fn prepare() -> Result<()> {
    Base::prepare().map(drop)
}

/// The version of the test host's Python, such as 3.14.
pub fn python() -> Result<String> {
    Base::prepare()?.python()
}

/// Boots a test host, runs the job in it with this process's standard streams, and gives the command's exit code.
pub fn execute(job: &Job) -> Result<u8> {
    execute_into(job, io::stdout())
}

/// The same with the command's stdout written to `stdout`.
pub fn execute_into(job: &Job, stdout: impl Write + Send + 'static) -> Result<u8> {
    let base = Base::prepare()?;
    let started = Instant::now();
    let inputs = freight::pack(job)?;
    let results = freight::results_disk()?;
    let mut host = qemu::start(&base, job, &inputs, &results)?;
    // A clock that counts instructions is kept by the CPU itself, and nothing else may cost any.
    if !job.icount {
        // Joined by nobody: it notices the host's end.
        pulse::start(host.ports.pulse.try_clone()?)?;
    }
    match session::serve(&mut host, stdout, started + job.timeout)? {
        Outcome::Exited(code) => {
            match freight::unpack(&results, &job.out) {
                // A command that failed has said why; that it left no results is only a consequence.
                Err(error) if code != 0 => eprintln!("testbed: {error:#}"),
                done => done?,
            }
            Ok(code)
        }
        Outcome::TimedOut { last_words } => {
            let (command, seconds) = (job.command.join(" "), job.timeout.as_secs());
            eprintln!("testbed: `{command}` was stopped after {seconds} s (--timeout)");
            if !last_words.trim().is_empty() {
                eprintln!("testbed: its console's last lines:\n{last_words}");
            }
            Ok(EXIT_TIMEOUT)
        }
    }
}
