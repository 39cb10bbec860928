//! Applies one layer (a tar stream, plain or compressed) to the tree of the layers below it.
//!
//! The stream is read once: decompressed, hashed on both sides, parsed, and its file data appended to the spool. What
//! it says is only believed once both digests are right, so the caller publishes nothing of a tree before [`Stack::add`]
//! has said yes for every layer.

mod decompress;
mod spool;

use std::io::{self, Read};

use thiserror::Error;

use crate::digest::{Digest, HashingReader};
use crate::erofs::is_storable;
use crate::limits::{Budget, LimitError, Limits, PATH_MAX};
use crate::tar::{Archive, Entry, EntryKind, TarError};
use crate::tree::{Attributes, EntryPath, Inode, Kind, Layer, PathError, Tree, TreeError, lossy};

pub use decompress::decompress;
pub use spool::Spool;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of the AUFS days, which says nothing about files.
const AUFS: &[u8] = b".wh..wh.";

/// Why a layer was refused.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The blob could not be read or decompressed.
    #[error("failed to read the layer")]
    Read(#[source] io::Error),
    /// Not a usable archive.
    #[error("failed to parse the layer")]
    Tar(#[from] TarError),
    /// An entry with a path that leads out or that Linux cannot hold.
    #[error("refused an entry of the layer")]
    Path(#[from] PathError),
    /// An entry that does not fit what is there.
    #[error("refused entry {path:?} of the layer")]
    Entry {
        /// The entry's path as written.
        path: String,
        /// Why.
        source: TreeError,
    },
    /// A reserved name that is no whiteout.
    #[error("refused entry {0:?}: names starting with .wh. are reserved for whiteouts")]
    Reserved(String),
    /// A symlink that no system could make.
    #[error("refused entry {0:?}: the symlink's target is empty, has a NUL byte, or is too long")]
    SymlinkTarget(String),
    /// Too much.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The blob is not the one that the manifest names.
    #[error("the layer's digest is {found}, the manifest says {expected}")]
    Digest {
        /// In the manifest.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// The blob is longer or shorter than the manifest says.
    #[error("the layer has {found} bytes, the manifest says {expected}")]
    Size {
        /// In the manifest.
        expected: u64,
        /// Of the blob.
        found: u64,
    },
    /// The content is not the one that the configuration names.
    #[error("the layer's diff id is {found}, the image's configuration says {expected}")]
    DiffId {
        /// In the configuration.
        expected: Digest,
        /// Of the uncompressed bytes.
        found: Digest,
    },
    /// File data could not be kept.
    #[error("failed to write the layer's files to temporary storage")]
    Spool(#[source] io::Error),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// What a layer has to be, besides a tar archive.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Digest of the uncompressed archive, from the configuration.
    pub diff_id: Digest,
    /// Digest and size of the blob, from the manifest, if there is one.
    pub blob: Option<(Digest, u64)>,
}

/// Layers applied so far.
pub struct Stack {
    tree: Tree,
    spool: Spool,
    budget: Budget,
    next: Layer,
}

impl Stack {
    /// No layers; file data will go to the spool.
    pub fn new(spool: Spool, limits: Limits) -> Self {
        Self { tree: Tree::new(), spool, budget: Budget::new(limits), next: 0 }
    }

    /// Applies the next layer. `advance` receives how many bytes of the blob were read, and answers whether to go on.
    /// After an error the stack is of no use.
    pub fn add(
        &mut self,
        blob: impl Read,
        expected: Expected,
        advance: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), LayerError> {
        let mut watched = Watched { inner: blob, count: 0, advance, stopped: false };
        let result = self.read_blob(&mut watched, expected);
        if watched.stopped { Err(LayerError::Cancelled) } else { result }
    }

    fn read_blob(&mut self, blob: impl Read, expected: Expected) -> Result<(), LayerError> {
        let allowed = self.budget.unpacked_left();
        let mut compressed = HashingReader::new(blob);
        // One byte more than allowed, so that reading it tells.
        let plain = decompress(&mut compressed).map_err(LayerError::Read)?.take(allowed.saturating_add(1));
        let mut archive = Archive::new(HashingReader::new(plain));
        let applied = self.entries(&mut archive);
        if archive.stream().count() > allowed {
            return Err(self.budget.unpacked_error().into());
        }
        applied?;
        let (diff_id, unpacked) = archive.into_stream().finish().map_err(LayerError::Read)?;
        self.budget.take_unpacked(unpacked)?;
        let (digest, size) = compressed.finish().map_err(LayerError::Read)?;
        expected.verify(digest, size, diff_id)
    }

    /// The merged tree and the bytes of its files.
    pub fn finish(self) -> (Tree, Spool) {
        (self.tree, self.spool)
    }

    fn entries<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<(), LayerError> {
        let layer = self.next;
        self.next += 1;
        while let Some(entry) = archive.next_entry()? {
            let held: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            let link = match &entry.kind {
                EntryKind::Symlink(link) | EntryKind::HardLink(link) => link.len(),
                _ => 0,
            };
            self.budget.take_entry(entry.path.len() + link + held)?;
            let before = self.tree.id_count();
            self.entry(entry, archive, layer)?;
            // One is the entry's own.
            self.budget.take_implied((self.tree.id_count() - before).saturating_sub(1))?;
            self.budget.check_steps(self.tree.steps())?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, data: &mut impl Read, layer: Layer) -> Result<(), LayerError> {
        let path = EntryPath::parse(&entry.path)?;
        if path.components().iter().any(|name| name.starts_with(WHITEOUT)) {
            return self.whiteout(&path, layer);
        }
        let refused = |source| LayerError::Entry { path: lossy(&entry.path), source };
        let mut attributes = Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs,
        };
        attributes.xattrs.retain(|name, _| is_storable(name));
        let kind = match entry.kind {
            EntryKind::Directory => {
                return self.tree.put_directory(&path, attributes, layer).map_err(refused);
            }
            EntryKind::HardLink(target) => {
                let target = EntryPath::parse(&target)?;
                return self.tree.put_link(&path, &target, layer).map_err(refused);
            }
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.contains(&0) || target.len() >= PATH_MAX {
                    return Err(LayerError::SymlinkTarget(lossy(&entry.path)));
                }
                Kind::Symlink(target.into())
            }
            EntryKind::File => Kind::File(self.spool.append(data, entry.size)?),
            EntryKind::CharDevice(device) => Kind::CharDevice(device),
            EntryKind::BlockDevice(device) => Kind::BlockDevice(device),
            EntryKind::Fifo => Kind::Fifo,
        };
        self.tree.put(&path, Inode { attributes, kind }, layer).map_err(refused)
    }

    fn whiteout(&mut self, path: &EntryPath, layer: Layer) -> Result<(), LayerError> {
        let shown = || lossy(&path.components().join(&b'/'));
        let refused = |source| LayerError::Entry { path: shown(), source };
        let Some((parents, last)) = path.split() else { return Ok(()) };
        if last == OPAQUE {
            return self.tree.make_opaque(parents, layer).map_err(refused);
        }
        if path.components().iter().any(|name| name.starts_with(AUFS)) {
            return Ok(());
        }
        match last.strip_prefix(WHITEOUT) {
            Some(name)
                if !matches!(name, b"" | b"." | b"..")
                    && !parents.iter().any(|p| p.starts_with(WHITEOUT)) =>
            {
                self.tree.whiteout(parents, name, layer).map_err(refused)
            }
            _ => Err(LayerError::Reserved(shown())),
        }
    }
}

impl Expected {
    fn verify(&self, digest: Digest, size: u64, diff_id: Digest) -> Result<(), LayerError> {
        if let Some((expected, expected_size)) = self.blob {
            if size != expected_size {
                return Err(LayerError::Size { expected: expected_size, found: size });
            }
            if digest != expected {
                return Err(LayerError::Digest { expected, found: digest });
            }
        }
        if diff_id == self.diff_id {
            Ok(())
        } else {
            Err(LayerError::DiffId { expected: self.diff_id, found: diff_id })
        }
    }
}

/// Tells how far the blob was read, and breaks it off on request.
struct Watched<'a, R> {
    inner: R,
    count: u64,
    advance: &'a mut dyn FnMut(u64) -> bool,
    stopped: bool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if n > 0 {
            self.count += n as u64;
            self.stopped = self.stopped || !(self.advance)(self.count);
        }
        if self.stopped { Err(io::Error::other("stopped on request")) } else { Ok(n) }
    }
}

#[cfg(test)]
#[path = "layer_test.rs"]
mod tests;
