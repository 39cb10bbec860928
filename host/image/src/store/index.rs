//! `index.json`: what images there are and what they are called. Replaced as a whole, under the store's lock.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

use super::{Store, StoreError, io_error};

const VERSION: u32 = 1;

/// All of the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    version: u32,
    /// By id.
    pub(super) images: BTreeMap<Digest, Record>,
    /// Ids by complete name.
    pub(super) names: BTreeMap<String, Digest>,
}

/// One image.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The layers' chain id, which names the disk.
    pub(super) chain: Digest,
    pub(super) manifest: Option<Digest>,
    /// `repository@digest` names, from pulls.
    pub(super) digests: Vec<String>,
    /// Seconds since 1970.
    pub(super) imported: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new(), names: BTreeMap::new() }
    }
}

impl Index {
    /// The index as it is now; empty if there is none yet.
    pub(super) fn read(store: &Store) -> Result<Self, StoreError> {
        let path = store.folder.join("index.json");
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(io_error("read", &path)(source)),
        };
        // The version first: a later one may have fields that this program would call damage.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |source| StoreError::Damaged { path: path.clone(), source };
        let Version { version } = serde_json::from_slice(&json).map_err(damaged)?;
        if version != VERSION {
            return Err(StoreError::Version { found: version, known: VERSION });
        }
        serde_json::from_slice(&json).map_err(damaged)
    }

    /// Replaces the index on disk. The lock proves that nobody else does.
    pub(super) fn write(&self, store: &Store, _lock: &Lock) -> Result<(), StoreError> {
        let path = store.folder.join("index.json");
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        write_durably(&path, &json).map_err(io_error("write", &path))
    }

    /// Complete names of an image, sorted.
    pub(super) fn names_of(&self, id: &Digest) -> Vec<String> {
        self.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone()).collect()
    }
}

/// The right to change the index. Others wait.
pub(super) struct Lock(#[expect(dead_code, reason = "closing it unlocks")] File);

impl Lock {
    pub(super) fn take(store: &Store) -> Result<Self, StoreError> {
        let path = store.folder.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(io_error("lock", &path)(errno.into())),
            }
        }
    }
}

/// Writes a file beside its place, syncs it, and renames it into place.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    sync_folder(folder)
}

/// Makes renames in a folder last.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
