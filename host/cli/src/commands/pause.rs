//! `theca pause`: freezes a container's processes.

use anyhow::bail;
use theca_proto::containerd::v1::types::Status;

use super::{many, running};
use crate::container::{Roots, Shelf};

/// Flags of `pause`.
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
        let (_, keeper, status) = running::find(&shelf, &name).await?;
        if status != Status::Running {
            bail!("container {name} is paused already");
        }
        Ok(keeper.pause().await?)
    })
    .await
}
