//! `cargo run -p theca-image --example import -- ROOT SOURCE [NAME]`: an OCI layout or docker-archive into a store.

use std::path::Path;

use theca_image::{ImportOptions, Silent, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (root, source, name) = match &words[..] {
        [root, source] => (root, source, None),
        [root, source, name] => (root, source, Some(name.parse()?)),
        _ => return Err("usage: import ROOT SOURCE [NAME]".into()),
    };
    let options = ImportOptions { name, ..ImportOptions::default() };
    for image in Store::open(Path::new(root))?.import(Path::new(source), &options, &Silent)? {
        println!("{} {}", image.short_id(), image.erofs.display());
    }
    Ok(())
}
