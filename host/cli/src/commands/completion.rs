//! `theca completion bash`: scripts made from the definitions of the command line.

use std::io::{self, Write};

use clap_complete::Shell;

use crate::args;

/// Flags of `completion`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The shell to complete for
    shell: Shell,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "theca", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}
