//! Finding an image by what people call it.

use std::fs;
use std::io;

use crate::digest::Digest;
use crate::reference::Reference;

use super::index::Index;
use super::{Image, Store, StoreError, io_error};

/// Fewer digits of an id are a name.
const SHORT_ID_MIN: usize = 4;

impl Store {
    /// The image of a name (`debian`, `debian:12`, `host/x@sha256:…`), a digest (`sha256:…`), or an id or its first
    /// digits. Names go before short ids.
    pub fn resolve(&self, what: &str) -> Result<Image, StoreError> {
        let index = Index::read(self)?;
        let id = find(&index, what)?;
        self.image(&index, &id)
    }

    /// The image of an id in the index.
    pub(super) fn image(&self, index: &Index, id: &Digest) -> Result<Image, StoreError> {
        let record = index.images.get(id).ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        let path = self.blob(id);
        let json = fs::read(&path).map_err(io_error("read", &path))?;
        let configuration =
            serde_json::from_slice(&json).map_err(|source| StoreError::Damaged { path, source })?;
        let erofs = self.disk(&record.chain);
        let size = match fs::metadata(&erofs) {
            Ok(disk) => disk.len(),
            // Removed while we looked: the next look at the index says so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(id.to_string()));
            }
            Err(source) => return Err(io_error("examine", &erofs)(source)),
        };
        let parse = |names: &[String]| -> Vec<Reference> {
            names.iter().filter_map(|name| name.parse().ok()).collect()
        };
        Ok(Image {
            id: *id,
            names: parse(&index.names_of(id)),
            digests: parse(&record.digests),
            manifest: record.manifest,
            imported: record.imported,
            size,
            erofs,
            configuration,
        })
    }
}

/// The id of what people call an image.
pub(super) fn find(index: &Index, what: &str) -> Result<Digest, StoreError> {
    let missing = || StoreError::NotFound(what.to_owned());
    if let Ok(digest) = what.parse::<Digest>() {
        let by_manifest =
            || index.images.iter().find(|(_, record)| record.manifest == Some(digest)).map(|(id, _)| *id);
        let by_id = index.images.contains_key(&digest).then_some(digest);
        return by_id.or_else(by_manifest).ok_or_else(missing);
    }
    if let Ok(name) = what.parse::<Reference>()
        && let Some(id) = by_name(index, &name)
    {
        return Ok(id);
    }
    by_short_id(index, what)?.ok_or_else(missing)
}

fn by_name(index: &Index, name: &Reference) -> Option<Digest> {
    let Some(digest) = name.digest() else { return index.names.get(&name.to_string()).copied() };
    let by_digest = name.at(*digest).to_string();
    let known = index.images.iter().find(|(_, record)| record.digests.contains(&by_digest));
    known.map(|(id, _)| *id)
}

fn by_short_id(index: &Index, what: &str) -> Result<Option<Digest>, StoreError> {
    let digits = what.strip_prefix("sha256:").unwrap_or(what);
    if digits.len() < SHORT_ID_MIN {
        return Ok(None);
    }
    let fitting: Vec<&Digest> = index.images.keys().filter(|id| id.hex().starts_with(digits)).collect();
    match fitting[..] {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        _ => Err(StoreError::Ambiguous {
            id: what.to_owned(),
            candidates: fitting.iter().map(|id| id.to_string()).collect(),
        }),
    }
}
