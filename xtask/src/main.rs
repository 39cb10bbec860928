//! Everything one does with this tree besides writing it: `cargo xtask COMMAND`, one file per command.
//!
//! What takes long is kept in a cache (`cache.rs`) under a hash of its inputs; what the machine lacks is installed by
//! `apt.rs`; where sandboxes run, on this machine's KVM or in the test host, is decided by `probe.rs`.

mod apt;
mod bench;
mod build;
mod cache;
mod clean_cache;
mod command;
mod cpio;
mod demo;
mod image;
mod kernel;
mod probe;
mod progress;
mod test;
mod testbed;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, try and test Theca.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and run a Debian container in a virtual machine of its own
    Demo(demo::Args),
    /// Build the programs, the initrd and the guest kernel into an install tree under target/theca
    Build(build::Args),
    /// Build the guest kernel, or check its configuration
    Kernel(kernel::Args),
    /// Run every check and every test
    Test(test::Args),
    /// The test host: a machine with KVM, in software, for any command
    Testbed(testbed::Args),
    /// Measure starts, memory and peers in a test host whose clock counts instructions
    Bench(bench::Args),
    /// Forget everything that was built or fetched into the cache
    CleanCache,
}

fn main() -> ExitCode {
    let result = match Xtask::parse().task {
        Task::Demo(args) => demo::run(args),
        Task::Build(args) => build::run(args).map(|()| ExitCode::SUCCESS),
        Task::Kernel(args) => kernel::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Test(args) => test::run(args),
        Task::Testbed(args) => Ok(testbed::run(args)),
        Task::Bench(args) => bench::run(args),
        Task::CleanCache => clean_cache::run().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
