//! Work in progress: a folder of one's own in `tmp`, and the sweep of what dead workers left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::digest::Digest;

use super::index::{Index, Lock};
use super::{Store, StoreError, io_error};

/// A temporary folder on the store's own file system. Goes away with its contents when dropped, and by the next
/// operation's sweep if its process was killed.
pub(crate) struct Staging {
    folder: tempfile::TempDir,
    /// A flock on the folder says that its worker lives. The kernel drops it with the process.
    _alive: File,
}

impl Staging {
    /// Sweeps, then makes a folder. The store's lock is held meanwhile, so that no sweep sees the folder unlocked.
    pub(crate) fn new(store: &Store) -> Result<Self, StoreError> {
        let lock = Lock::take(store)?;
        sweep(store, &lock)?;
        let parent = store.staging();
        let folder = tempfile::tempdir_in(&parent).map_err(io_error("make a folder in", &parent))?;
        let alive = File::open(folder.path()).map_err(io_error("open", folder.path()))?;
        rustix::fs::flock(&alive, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| io_error("lock", folder.path())(errno.into()))?;
        Ok(Self { folder, _alive: alive })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes hold of an existing disk by a second name, so that nobody's removal takes it away. `None` if there is none.
    pub(super) fn pin(&self, disk: &Path) -> Result<Option<PathBuf>, StoreError> {
        let pinned = self.path().join(disk.file_name().unwrap_or_default());
        match fs::hard_link(disk, &pinned) {
            Ok(()) => Ok(Some(pinned)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(pinned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error("link", disk)(source)),
        }
    }
}

/// Removes what dead workers left: their folders, and files that were published but never named by the index.
pub(super) fn sweep(store: &Store, _lock: &Lock) -> Result<(), StoreError> {
    for path in list(&store.staging())? {
        let dead = File::open(&path)
            .is_ok_and(|folder| rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok());
        if dead {
            tracing::info!(path = %path.display(), "removing what an interrupted import left");
            fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        }
    }
    let index = Index::read(store)?;
    let disks: BTreeSet<PathBuf> = index.images.values().map(|record| store.disk(&record.chain)).collect();
    let documents: BTreeSet<PathBuf> =
        index.images.iter().flat_map(|(id, record)| documents(store, id, record.manifest)).collect();
    for path in list(&store.disks())?.into_iter().filter(|path| !disks.contains(path)) {
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    for path in list(&store.blobs())?.into_iter().filter(|path| !documents.contains(path)) {
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    // The index itself is written beside its place before it is renamed.
    for path in list(&store.folder)?.into_iter().filter(|path| is_unfinished(path)) {
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

fn documents(store: &Store, id: &Digest, manifest: Option<Digest>) -> impl Iterator<Item = PathBuf> {
    [Some(*id), manifest].into_iter().flatten().map(|digest| store.blob(&digest))
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".new-"))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(io_error("list", folder))
}
