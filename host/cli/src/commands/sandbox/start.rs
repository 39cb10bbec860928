//! `theca sandbox start`.

use super::create;
use crate::commands::many;
use crate::daemon::{Daemon, DaemonError};

/// Flags of `sandbox start`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The sandboxes' ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Runs the command: each is printed when it takes containers.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    many::each(&args.sandboxes, async |id| Ok(start(daemon, &id).await?)).await
}

/// Of a sandbox that a restart of the machine has left nothing of but its record, another one is made.
async fn start(daemon: &Daemon, id: &str) -> Result<(), DaemonError> {
    let missing = match daemon.start(id).await {
        Err(error) if error.is_not_found() => error,
        other => return other,
    };
    match daemon.record(id).await {
        Ok(record) if create::options(&record).is_some() => daemon.create(record).await?,
        // Whoever made it makes it anew; here it is not known how.
        Ok(_) => return Err(missing),
        Err(error) if error.is_not_found() => return Err(missing),
        Err(error) => return Err(error),
    }
    daemon.start(id).await
}
