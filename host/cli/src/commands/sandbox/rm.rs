//! `theca sandbox rm`: removes sandboxes and their records, running ones only when forced.

use anyhow::bail;

use super::run::LABEL;
use super::{standing, state};
use crate::commands::many;
use crate::daemon::Daemon;

/// Flags of `sandbox rm`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// End running sandboxes, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// The sandboxes' ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    many::each(&args.sandboxes, async |id| remove(daemon, &id, args.force).await).await
}

async fn remove(daemon: &Daemon, id: &str, force: bool) -> anyhow::Result<()> {
    let there = standing(daemon, id).await?;
    if !force && there.as_ref().is_some_and(|status| state(status) == "ready") {
        bail!("sandbox {id} runs; stop it first, or use `theca sandbox rm -f {id}`");
    }
    daemon.shutdown(id).await?;
    daemon.forget_containers(&format!("sandbox=={id},labels.\"{LABEL}\"==true")).await?;
    match daemon.forget_record(id).await {
        // Whoever made it kept no record here, as containerd does.
        Err(error) if error.is_not_found() && (there.is_some() || force) => Ok(()),
        Err(error) if error.is_not_found() => bail!("sandbox {id} does not exist"),
        other => Ok(other?),
    }
}
