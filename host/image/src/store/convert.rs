//! From a description to an image in the store: unpack, write the disk, publish, name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::erofs;
use crate::layer::{Spool, Stack};
use crate::limits::Limits;
use crate::progress::{Progress, Step};
use crate::source::{Description, Files};

use super::index::{self, Index, Lock, Record};
use super::{Image, Staging, Store, StoreError, io_error, staging};

/// What bringing in an image needs besides its description.
pub(crate) struct Work<'a> {
    pub(crate) staging: &'a Staging,
    pub(crate) files: &'a dyn Files,
    pub(crate) limits: &'a Limits,
    pub(crate) progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Reports; answers whether to go on.
    fn advance(&self, step: Step, done: u64, total: Option<u64>) -> bool {
        self.progress.advanced(step, done, total);
        !self.progress.cancelled()
    }
}

impl Store {
    /// Brings a described image in. `digests` are names of it that no description has.
    pub(crate) fn admit(
        &self,
        work: &Work,
        description: &Description,
        digests: Vec<String>,
    ) -> Result<Image, StoreError> {
        let chain = description.chain();
        let disk = match work.staging.pin(&self.disk(&chain))? {
            Some(pinned) => pinned,
            None => convert(work, description, chain)?,
        };
        let imported = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let manifest = description.manifest.as_ref().map(|(digest, _)| *digest);
        self.publish(&disk, description, Record { chain, manifest, digests, imported })
    }

    /// Whether the disk of a chain is there, and stays there for this worker.
    #[cfg(feature = "registry")]
    pub(crate) fn holds(&self, staging: &Staging, chain: &Digest) -> Result<bool, StoreError> {
        Ok(staging.pin(&self.disk(chain))?.is_some())
    }

    /// Puts a finished disk and the documents in their places and lets the index name them, or leaves nothing.
    fn publish(&self, disk: &Path, description: &Description, record: Record) -> Result<Image, StoreError> {
        let lock = Lock::take(self)?;
        let published = self.publish_locked(disk, description, record, &lock);
        if published.is_err()
            && let Err(error) = staging::sweep(self, &lock)
        {
            tracing::warn!(%error, "the next import or removal will try again to clean up");
        }
        published
    }

    fn publish_locked(
        &self,
        disk: &Path,
        description: &Description,
        mut record: Record,
        lock: &Lock,
    ) -> Result<Image, StoreError> {
        let target = self.disk(&record.chain);
        fs::rename(disk, &target).map_err(io_error("move a disk to", &target))?;
        index::sync_folder(&self.disks()).map_err(io_error("sync", &self.disks()))?;
        let configuration = (description.id, &description.configuration_json);
        let manifest = description.manifest.as_ref().map(|(digest, json)| (*digest, json));
        for (digest, json) in [Some(configuration), manifest].into_iter().flatten() {
            let path = self.blob(&digest);
            index::write_durably(&path, json).map_err(io_error("write", &path))?;
        }
        let mut index = Index::read(self)?;
        if let Some(before) = index.images.get(&description.id) {
            record.manifest = record.manifest.or(before.manifest);
            record.digests.extend(before.digests.iter().cloned());
            record.digests.sort();
            record.digests.dedup();
        }
        index.images.insert(description.id, record);
        for name in &description.names {
            index.names.insert(name.to_string(), description.id);
        }
        index.write(self, lock)?;
        self.image(&index, &description.id)
    }
}

/// Unpacks the layers and writes their disk in the staging folder.
fn convert(work: &Work, description: &Description, chain: Digest) -> Result<PathBuf, StoreError> {
    let folder = work.staging.path();
    let spool = Spool::new(folder).map_err(io_error("make a file in", folder))?;
    let mut stack = Stack::new(spool, work.limits.clone());
    let count = description.layers.len();
    for (number, layer) in (1..).zip(&description.layers) {
        let blob = work.files.require(&layer.file)?;
        let (step, total) = (Step::Unpack(layer.expected.diff_id), Some(blob.size));
        let mut advance = |done| work.advance(step, done, total);
        stack.add(blob.data, layer.expected, &mut advance).map_err(|source| StoreError::Layer {
            number,
            count,
            source,
        })?;
    }
    let (tree, spool) = stack.finish();
    let path = folder.join(format!("{}.erofs", chain.hex()));
    let image = File::options().read(true).write(true).create_new(true).open(&path);
    let image = image.map_err(io_error("make", &path))?;
    erofs::write(&tree, &spool, &image, &mut |done, total| {
        work.advance(Step::Write(chain), done, Some(total))
    })?;
    image.sync_all().map_err(io_error("sync", &path))?;
    Ok(path)
}
