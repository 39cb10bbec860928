//! What an image may ask of the host, and the running account of it.

use thiserror::Error;

/// The longest path in an archive, like Linux' own `PATH_MAX`.
pub const PATH_MAX: usize = 4096;
/// The longest file name, which is also what a directory entry of EROFS can name.
pub const NAME_MAX: usize = 255;
/// The deepest folder. Reached only on purpose: entries below symlinks can nest deeper than one path is long.
pub const DEPTH_MAX: u16 = 1024;
/// Names and values of all extended attributes of one file, as Linux' `XATTR_LIST_MAX` bounds the names.
pub const XATTRS_MAX: usize = 64 << 10;
/// The largest JSON document (manifest, index or configuration).
pub const DOCUMENT_MAX: u64 = 8 << 20;

/// Bounds for one image, against archives that unpack to more than anybody wants.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Uncompressed bytes of all layers together.
    pub unpacked_bytes: u64,
    /// Entries of all layers together, counting those that later layers hide, and the folders that they imply.
    pub entries: u64,
    /// Bytes of memory for names, link targets and extended attributes together.
    pub metadata_bytes: u64,
    /// Layers.
    pub layers: usize,
    /// Folders passed on the way to all entries, and names looked at to hide them: the work that a small archive can make.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 64 << 30,
            entries: 2_000_000,
            metadata_bytes: 256 << 20,
            layers: 512,
            steps: 100_000_000,
        }
    }
}

/// A limit that was passed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// Too many bytes.
    #[error("the image unpacks to more than the limit of {0} bytes")]
    Unpacked(u64),
    /// Too many entries.
    #[error("the image has more than the limit of {0} entries")]
    Entries(u64),
    /// Too much metadata.
    #[error("names, link targets and extended attributes of the image take more than the limit of {0} bytes")]
    Metadata(u64),
    /// Too much work.
    #[error("the paths of the image lead through more than the limit of {0} folders")]
    Steps(u64),
}

/// What is left of [`Limits`] while an image is read.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    entries: u64,
    metadata: u64,
    unpacked: u64,
}

impl Budget {
    /// A budget with everything left.
    pub fn new(limits: Limits) -> Self {
        Self { limits, entries: 0, metadata: 0, unpacked: 0 }
    }

    /// Counts one entry and the memory of its names.
    pub fn take_entry(&mut self, metadata: usize) -> Result<(), LimitError> {
        self.entries += 1;
        self.metadata = self.metadata.saturating_add(metadata as u64);
        if self.entries > self.limits.entries {
            return Err(LimitError::Entries(self.limits.entries));
        }
        if self.metadata > self.limits.metadata_bytes {
            return Err(LimitError::Metadata(self.limits.metadata_bytes));
        }
        Ok(())
    }

    /// Counts folders that no entry describes: they take as much memory as those that have one.
    pub fn take_implied(&mut self, folders: usize) -> Result<(), LimitError> {
        self.entries = self.entries.saturating_add(folders as u64);
        if self.entries > self.limits.entries {
            Err(LimitError::Entries(self.limits.entries))
        } else {
            Ok(())
        }
    }

    /// Compares the steps made so far with the limit.
    pub fn check_steps(&self, made: u64) -> Result<(), LimitError> {
        if made > self.limits.steps { Err(LimitError::Steps(self.limits.steps)) } else { Ok(()) }
    }

    /// Counts the bytes of one finished layer.
    pub fn take_unpacked(&mut self, bytes: u64) -> Result<(), LimitError> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        if self.unpacked > self.limits.unpacked_bytes { Err(self.unpacked_error()) } else { Ok(()) }
    }

    /// Bytes that may still be unpacked.
    pub fn unpacked_left(&self) -> u64 {
        self.limits.unpacked_bytes.saturating_sub(self.unpacked)
    }

    /// The error of a stream that had more than [`Budget::unpacked_left`].
    pub fn unpacked_error(&self) -> LimitError {
        LimitError::Unpacked(self.limits.unpacked_bytes)
    }
}
