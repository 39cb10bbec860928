//! `delete`: after a keeper that was killed. Nothing of it runs or lies about afterwards; a second time is fine.

use std::io::{self, Write};
use std::time::SystemTime;

use anyhow::{Context, anyhow};
use prost::Message;
use theca_api::convert::time;
use theca_controller::run_dir::{RunDir, state_root};
use theca_controller::sandbox::residue;
use theca_proto::containerd::task::v2::DeleteResponse;

use crate::args::Args;

/// What a task that went with its keeper is said to have ended with: SIGKILL.
const KILLED: u32 = 137;

/// Cleans up and prints how the task ended, as containerd wants it.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (namespace, id) = args.sandbox()?;
    let folder = RunDir::new(&state_root(), namespace, id);
    let errors = residue::remove(&folder);
    if !errors.is_empty() {
        let told: Vec<_> = errors.into_iter().map(|error| format!("{:#}", anyhow!(error))).collect();
        return Err(anyhow!("something of the sandbox stays: {}", told.join("; ")));
    }
    let exited_at = Some(time::wire(SystemTime::now()));
    let response = DeleteResponse { pid: 0, exit_status: KILLED, exited_at };
    io::stdout().write_all(&response.encode_to_vec()).context("failed to print the answer")
}
