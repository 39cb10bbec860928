//! The OCI image layout: `index.json` and `blobs/sha256/<hex>`.

use crate::digest::Digest;
use crate::limits::Limits;
use crate::reference::Reference;

use super::{Description, Descriptor, Document, Files, SourceError};

/// Where containerd and Docker put the complete name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A complete name, or just a tag, which alone names nothing.
const OCI_NAME: &str = "org.opencontainers.image.ref.name";
/// An index in an index in an index is still somebody's idea of an image.
const INDEX_DEPTH: usize = 4;

/// Where a layout keeps a blob.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// All images for this machine. Two top-level entries of one manifest are one image with two names.
pub fn images(files: &dyn Files, limits: &Limits) -> Result<Vec<Description>, SourceError> {
    let what = "index.json";
    let Document::Index(entries) = Document::parse(&files.document(what)?, what)? else {
        return Err(SourceError::Document { what: what.into(), problem: "is not an index".into() });
    };
    Document::choose(&entries)?;
    let mut found: Vec<(Digest, Vec<Reference>)> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.may_run_here()) {
        let manifest = entry.digest()?;
        let name = name_of(entry);
        match found.iter_mut().find(|(digest, _)| *digest == manifest) {
            Some((_, names)) => names.extend(name),
            None => found.push((manifest, name.into_iter().collect())),
        }
    }
    found.into_iter().map(|(manifest, names)| describe(files, manifest, names, limits)).collect()
}

fn name_of(entry: &Descriptor) -> Option<Reference> {
    let complete = |name: &&str| name.contains([':', '/']);
    let name = entry.annotation(CONTAINERD_NAME).or_else(|| entry.annotation(OCI_NAME).filter(complete))?;
    name.parse()
        .inspect_err(|error| tracing::debug!(%error, "the layout's name for an image is left out"))
        .ok()
}

/// Describes the image of a manifest, or of an index with one for this machine.
pub fn describe(
    files: &dyn Files,
    manifest: Digest,
    names: Vec<Reference>,
    limits: &Limits,
) -> Result<Description, SourceError> {
    let mut at = manifest;
    for _ in 0..INDEX_DEPTH {
        let json = verified(files, &at)?;
        match Document::parse(&json, &format!("manifest {at}"))? {
            Document::Index(entries) => at = Document::choose(&entries)?.digest()?,
            Document::Manifest { config, layers } => {
                return image(files, (at, json), &config, &layers, names, limits);
            }
        }
    }
    Err(SourceError::Document {
        what: format!("index {manifest}"),
        problem: "leads through too many indexes".into(),
    })
}

fn image(
    files: &dyn Files,
    manifest: (Digest, Vec<u8>),
    config: &Descriptor,
    layers: &[Descriptor],
    names: Vec<Reference>,
    limits: &Limits,
) -> Result<Description, SourceError> {
    let id = config.digest()?;
    let configuration_json = verified(files, &id)?;
    let (configuration, diff_ids) = super::parse_configuration(&configuration_json, limits)?;
    let mut blobs = Vec::with_capacity(layers.len());
    for layer in layers {
        let digest = layer.digest()?;
        blobs.push((blob_path(&digest), Some((digest, layer.size))));
    }
    let layers = super::pair(blobs, &diff_ids)?;
    Ok(Description { names, manifest: Some(manifest), id, configuration_json, configuration, layers })
}

fn verified(files: &dyn Files, digest: &Digest) -> Result<Vec<u8>, SourceError> {
    let path = blob_path(digest);
    let bytes = files.document(&path)?;
    let found = Digest::of(&bytes);
    if found == *digest {
        Ok(bytes)
    } else {
        Err(SourceError::Mismatch { what: path, expected: *digest, found })
    }
}
