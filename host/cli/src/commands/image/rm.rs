//! `theca image rm`.

use theca_image::{Digest, RemoveOptions, Store};

use crate::commands::many;
use crate::container::{Roots, Shelf, Source};
use crate::output;

/// Flags of `image rm`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Also images that containers use or that have several names, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// The images' names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let roots = Roots::from_env();
    let (shelf, store) = (Shelf::new(roots.clone()), Store::open(roots.data())?);
    let options = RemoveOptions { force: args.force };
    many::each_quietly(&args.images, async |name| {
        let removal = match store.remove(&name, options, &|id| users(&shelf, id)) {
            Err(theca_image::StoreError::NotFound(_)) if args.force => return Ok(()),
            other => other?,
        };
        for reference in &removal.untagged {
            output::line(&format!("Untagged: {}", reference.familiar()))?;
        }
        if let Some(id) = &removal.deleted {
            output::line(&format!("Deleted: {id}"))?;
        }
        Ok(())
    })
    .await
}

/// The names of the containers made from an image.
fn users(shelf: &Shelf, image: &Digest) -> Vec<String> {
    let image = image.to_string();
    let ids = shelf.ids().unwrap_or_default();
    let records = ids.iter().filter_map(|id| shelf.record(id).ok().flatten());
    let using = records.filter(|record| matches!(&record.source, Source::Image { id, .. } if *id == image));
    using.map(|record| record.name.to_string()).collect()
}
