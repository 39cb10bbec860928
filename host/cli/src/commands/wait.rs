//! `theca wait`: blocks until containers end, and prints their exit statuses.

use super::running::look_up;
use crate::container::settle::settle_after_end;
use crate::container::{Phase, Roots, Shelf};
use crate::error::FAILED;
use crate::output;

/// Flags of `wait`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let mut code = 0;
    for name in &args.containers {
        match wait(&shelf, name).await {
            Ok(status) => output::line(&status.to_string())?,
            Err(error) => {
                output::warn(&format!("{error:#}"));
                code = FAILED;
            }
        }
    }
    Ok(code)
}

async fn wait(shelf: &Shelf, name: &str) -> anyhow::Result<u32> {
    let settled = look_up(shelf, name).await?;
    let Some((keeper, _)) = settled.live else {
        return Ok(match settled.record.phase {
            Phase::Exited(exit) => exit.status,
            _ => 0,
        });
    };
    let (status, _) = keeper.wait("").await?;
    drop(keeper);
    settle_after_end(shelf, &settled.record.id).await?;
    Ok(status)
}
