//! `containerd-shim-theca-v2`: the keeper of one sandbox.
//!
//! ```text
//!   … start    makes the sandbox's folder and socket, starts `serve` in the background, prints its address, ends
//!   … serve    is the keeper: owns the VM, serves the task API, ends with the sandbox
//!   … delete   removes what a keeper that was killed has left
//!   … -info    says what runtime this is        … -v    says its version
//! ```
//!
//! containerd, or `theca`, calls `start` and `delete` with a bundle as working directory.

mod args;
mod delete;
mod info;
mod log;
mod serve;
mod start;

use std::process::ExitCode;

use args::{Action, Args};

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => return fail(&error.into()),
    };
    let done = match args.action {
        Action::Start => start::run(&args),
        Action::Serve { listener } => serve::run(&args, listener),
        Action::Delete => delete::run(&args),
        Action::Info => info::run(),
        Action::Version => info::version(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("containerd-shim-theca-v2: {error:#}");
    ExitCode::FAILURE
}
