//! `theca`: runs containers, each in a microVM of its own. Needs no daemon for that.
//!
//! ```text
//!  args ─▶ commands/<verb> ─▶ plan ──▶ container (records, names, locks, disks)
//!                          │   └─▶ spec (config.json)
//!                          └▶ launch ─▶ keeper (spawn, task API) ─▶ session ─▶ stdio
//! ```
//!
//! `commands/sandbox` alone asks thecad, through `daemon`.
//!
//! Every command is over when it returns; what outlives it is the keeper of a detached container, and the records below
//! `/var/lib/theca`.

mod args;
mod commands;
mod container;
mod daemon;
mod error;
mod flags;
mod host;
mod keeper;
mod launch;
mod log;
mod output;
mod plan;
mod session;
mod spec;
mod stdio;
mod sys;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    restore_terminal_on_panic();
    let work = match usage::parse() {
        Ok(work) => work,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::from(error).context("failed to set up asynchronous I/O")),
    };
    match runtime.block_on(work) {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error),
    }
}

/// The one place where an error ends up.
fn fail(error: &anyhow::Error) -> ExitCode {
    output::warn(&format!("{error:#}{}", usage::advice(error)));
    ExitCode::from(error::exit_code(error))
}

/// Release builds abort on panic and run no destructor.
fn restore_terminal_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        stdio::restore_terminal();
        print(panic);
    }));
}
