//! `theca image …`: the image store.

mod import;
mod inspect;
mod ls;
mod pull;
mod rm;
mod work;

use theca_image::{Image, Store, StoreError};

use crate::container::Roots;

/// Flags of `image`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What to do with images.
#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Take images from an OCI layout or docker-archive, a folder or a tar file
    #[command(visible_alias = "load")]
    Import(import::Args),
    /// Fetch an image from its registry
    Pull(pull::Args),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Tell all about images, as JSON
    Inspect(inspect::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    match args.command {
        Command::Import(args) => import::run(args).await,
        Command::Pull(args) => pull::run(args).await,
        Command::Ls(args) => ls::run(args),
        Command::Rm(args) => rm::run(args).await,
        Command::Inspect(args) => inspect::run(args),
    }
}

/// An image of the store.
pub fn find(roots: &Roots, name: &str) -> Result<Image, StoreError> {
    Store::open(roots.data())?.resolve(name)
}

/// An image of the store, fetched if it is not there, or in any case.
pub async fn find_or_pull(roots: &Roots, name: &str, always: bool) -> anyhow::Result<Image> {
    if !always {
        match find(roots, name) {
            Err(StoreError::NotFound(_)) => {}
            other => return Ok(other?),
        }
    }
    let reference = name.parse()?;
    if !always {
        crate::output::warn(&format!("image {name} is not in the store, fetching it"));
    }
    pull::fetch(roots, reference, pull::default_options()).await
}
