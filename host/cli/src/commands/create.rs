//! `theca create`: all of `run` but the start. A signal meanwhile leaves nothing.

use crate::container::settle::sweep;
use crate::container::{Phase, Roots, Shelf};
use crate::error::StartError;
use crate::flags::{ContainerFlags, usage};
use crate::output;
use crate::plan::Plan;
use crate::stdio::Signals;

/// Flags of `create`.
#[derive(clap::Args, Debug)]
#[command(override_usage = usage!("create"))]
pub struct Args {
    #[command(flatten)]
    container: ContainerFlags,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let plan = Plan::read(args.container, &shelf).await?;
    let mut signals = Signals::catch()?;
    let made = plan.make(&shelf, Phase::Starting).and_then(|made| {
        plan.write_config(&made.held)?;
        Ok(made)
    });
    if let Some(signal) = signals.end_so_far().await {
        return Err(StartError::Interrupted(signal).into());
    }
    let made = made?;
    let mut held = made.keep(true);
    held.enter(Phase::Created)?;
    held.removed_on_drop(false);
    output::line(held.record.id.as_str())?;
    drop(held);
    sweep(&shelf).await;
    Ok(0)
}
