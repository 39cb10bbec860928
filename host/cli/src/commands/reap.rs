//! `theca reap`: what a keeper runs when a container has ended and nobody is there to tidy up.

use crate::container::settle::settle_after_end;
use crate::container::{Roots, Shelf, ShelfError};

/// Flags of `reap`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The container's id
    container: String,
}

/// Runs the command. A container that has gone meanwhile is as wanted.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    match shelf.find_id(&args.container) {
        Ok(id) => settle_after_end(&shelf, &id).await.map(|_| 0),
        Err(ShelfError::NotFound(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
