//! The docker-archive: `manifest.json` with a list of images, each with names, a configuration and layers by path.
//!
//! The format has no digests of its own except in file names, where they are verified; the layers' diff ids in the
//! configuration always are.

use serde::Deserialize;

use crate::digest::Digest;
use crate::limits::Limits;
use crate::reference::Reference;

use super::{Description, Files, SourceError};

const WHAT: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// All images of the archive. One for another machine is an error: there is no index to choose from.
pub fn images(files: &dyn Files, limits: &Limits) -> Result<Vec<Description>, SourceError> {
    let json = files.document(WHAT)?;
    let images: Vec<Image> =
        serde_json::from_slice(&json).map_err(|source| SourceError::Json { what: WHAT.into(), source })?;
    if images.is_empty() {
        return Err(SourceError::Document { what: WHAT.into(), problem: "lists no image".into() });
    }
    images.into_iter().map(|image| describe(files, image, limits)).collect()
}

fn describe(files: &dyn Files, image: Image, limits: &Limits) -> Result<Description, SourceError> {
    let configuration_json = files.document(&image.config)?;
    let id = Digest::of(&configuration_json);
    if let Some(expected) = digest_in(&image.config).filter(|expected| *expected != id) {
        return Err(SourceError::Mismatch { what: image.config, expected, found: id });
    }
    let (configuration, diff_ids) = super::parse_configuration(&configuration_json, limits)?;
    let mut blobs = Vec::new();
    for file in image.layers.unwrap_or_default() {
        let size = files.require(&file)?.size;
        // Only under blobs/ is the name the digest of the bytes; `<id>/layer.tar` is named by something else.
        let digest = file.strip_prefix("blobs/sha256/").and_then(digest_in);
        blobs.push((file, digest.map(|digest| (digest, size))));
    }
    let layers = super::pair(blobs, &diff_ids)?;
    // `<none>:<none>` and other oddities name nothing.
    let names: Vec<Reference> =
        image.repo_tags.unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
    Ok(Description { names, manifest: None, id, configuration_json, configuration, layers })
}

/// The digest in a file name such as `<hex>.json` or `blobs/sha256/<hex>`.
fn digest_in(file: &str) -> Option<Digest> {
    let name = file.rsplit('/').next()?;
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}
