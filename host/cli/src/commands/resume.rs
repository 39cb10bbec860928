//! `theca resume`: lets a paused container go on.

use super::{many, running};
use crate::container::{Roots, Shelf};

/// Flags of `resume`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    many::each(&args.containers, async |name| {
        let (_, keeper, _) = running::find(&shelf, &name).await?;
        Ok(keeper.resume().await?)
    })
    .await
}
