//! `theca image import`.

use std::path::PathBuf;

use anyhow::Context;
use theca_image::{ImportOptions, Reference, Store};

use super::work::watched;
use crate::container::Roots;
use crate::output;

/// Flags of `image import`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only ids, no progress
    #[arg(short, long)]
    quiet: bool,
    /// Name the image so, whatever the archive says; the archive must hold one image
    #[arg(short, long, value_name = "NAME", visible_alias = "tag")]
    name: Option<Reference>,
    /// An OCI layout or docker-archive: a folder or tar file, compressed or not
    path: PathBuf,
    /// The same as --name
    #[arg(value_name = "NAME", conflicts_with = "name")]
    positional_name: Option<Reference>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let roots = Roots::from_env();
    let (path, quiet) = (args.path, args.quiet);
    let options = ImportOptions { name: args.name.or(args.positional_name), ..ImportOptions::default() };
    let images = watched(quiet, move |progress| {
        let store = Store::open(roots.data())?;
        store
            .import(&path, &options, progress)
            .with_context(|| format!("failed to import {}", path.display()))
    })
    .await?;
    for image in images {
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        if quiet || names.is_empty() {
            output::line(&image.id.to_string())?;
        } else {
            output::line(&format!("Imported image: {}", names.join(", ")))?;
        }
    }
    Ok(0)
}
