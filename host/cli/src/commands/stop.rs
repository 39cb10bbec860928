//! `theca stop`: ask, wait, kill.

use std::time::Duration;

use super::{many, running};
use crate::container::settle::settle_after_end;
use crate::container::{Phase, Record, Roots, Shelf};
use crate::keeper::{Keeper, KeeperError};
use crate::spec::signal;

/// Flags of `stop`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Seconds to wait before killing; -1 waits without end [default: the container's own]
    #[arg(
        short = 't',
        long = "timeout",
        visible_alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    timeout: Option<i64>,
    /// The signal to ask with [default: the container's own]
    #[arg(short, long)]
    signal: Option<String>,
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let number = args.signal.as_deref().map(signal::parse).transpose()?;
    many::each(&args.containers, async |name| {
        let settled = running::look_up(&shelf, &name).await?;
        // One that is at rest already is as wanted.
        if settled.live.is_none() && matches!(settled.record.phase, Phase::Created | Phase::Exited(_)) {
            return Ok(());
        }
        let (record, keeper, _) = running::find(&shelf, &name).await?;
        let timeout = args.timeout.unwrap_or(i64::from(record.settings.stop_timeout));
        let patience = u64::try_from(timeout).ok().map(Duration::from_secs);
        end(&record, &keeper, number, patience).await?;
        settle_after_end(&shelf, &record.id).await?;
        Ok(())
    })
    .await
}

/// Ends a running container: the signal, then after `patience` SIGKILL. A paused one is let go on, or it could not
/// answer.
async fn end(
    record: &Record,
    keeper: &Keeper,
    number: Option<i32>,
    patience: Option<Duration>,
) -> Result<(), KeeperError> {
    let ended = |outcome: Result<(), KeeperError>| match outcome {
        Err(error) if error.is_not_found() || error.is_gone() => Ok(()),
        other => other,
    };
    let mut exit = Box::pin(keeper.wait(""));
    match keeper.kill("", number.unwrap_or(record.settings.stop_signal), false).await {
        // A guest that does not take the signal will not do what it says.
        Err(error) if error.is_late() => return keeper.put_to_death(true).await.map(drop),
        asked => ended(asked)?,
    }
    // Refused if it is not paused.
    let _ = keeper.resume().await;
    match patience {
        None => ended(exit.await.map(drop)),
        Some(patience) => match tokio::time::timeout(patience, &mut exit).await {
            Ok(outcome) => ended(outcome.map(drop)),
            Err(_) => keeper.put_to_death(true).await.map(drop),
        },
    }
}
