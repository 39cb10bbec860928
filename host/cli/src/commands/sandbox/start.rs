//! `theca sandbox start`.

use crate::commands::many;
use crate::daemon::Daemon;

/// Flags of `sandbox start`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sandboxes' ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Runs the command: each is printed when it takes containers.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    many::each(&args.sandboxes, async |id| Ok(daemon.start(&id).await?)).await
}
