//! `theca sandbox stop`.

use crate::commands::many;
use crate::daemon::Daemon;

/// Flags of `sandbox stop`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seconds that containers have to end before they are killed [default: thecad's setting]
    #[arg(short = 't', long = "timeout", visible_alias = "time", value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
    /// The sandboxes' ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Runs the command: each is printed when nothing of it runs any more.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let timeout = args.timeout.unwrap_or(0);
    many::each(&args.sandboxes, async |id| Ok(daemon.stop(&id, timeout).await?)).await
}
