//! `theca kill`: a signal to a container's init.

use super::{many, running};
use crate::container::settle::settle_after_end;
use crate::container::{Roots, Shelf};
use crate::spec::signal;

/// Flags of `kill`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let number = signal::parse(&args.signal)?;
    many::each(&args.containers, async |name| {
        let (record, keeper, _) = running::find(&shelf, &name).await?;
        if number == nix::libc::SIGKILL {
            // Nothing survives it, so the container is at rest when this command is done.
            keeper.put_to_death(false).await?;
            settle_after_end(&shelf, &record.id).await?;
            return Ok(());
        }
        Ok(keeper.kill("", number, false).await?)
    })
    .await
}
