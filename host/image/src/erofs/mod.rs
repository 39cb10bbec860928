//! Writes a [`Tree`] as an uncompressed EROFS image: deterministic bytes, the index in memory, file data copied once.
//!
//! ```text
//!  ┌ block 0 ──────────────┬ …                        ┬ …                              ┐
//!  │ 1024: superblock, then│ inodes with attributes   │ blocks of files, folders and   │
//!  │ the root's inode      │ and inline bytes         │ symlinks that are not inline   │
//!  └───────────────────────┴──────────────────────────┴────────────────────────────────┘
//! ```
//!
//! The image starts at the file's start and is a whole number of 4 KiB blocks. It is not synced: the caller knows
//! whether it has to last.

mod directory;
mod format;
mod plan;
mod writer;
mod xattr;

use std::fs::File;
use std::io;

use thiserror::Error;

use crate::folder::{self, FolderError};
use crate::limits::Limits;
use crate::tree::{Content, Tree};

pub use xattr::is_storable;

/// Gives the bytes that a tree's [`Content`]s point at.
pub trait Contents {
    /// Fills the buffer from a position in the content. What is shorter than its size says is an error.
    fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// Why an image was not written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The image file could not be written.
    #[error("failed to write the EROFS image")]
    Image(#[source] io::Error),
    /// A file's bytes could not be had.
    #[error("failed to read a file of the image")]
    Content(#[source] io::Error),
    /// An attribute has no place in EROFS.
    #[error("extended attribute {name} is too large for an EROFS image")]
    Xattr {
        /// Its name.
        name: String,
    },
    /// More blocks than EROFS counts.
    #[error("the image would be larger than 16 TiB")]
    TooLarge,
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Why a folder was not turned into an image.
#[derive(Debug, Error)]
pub enum FolderImageError {
    /// The folder could not be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The image could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Receives `(done, total)` bytes of file data; answers whether to go on.
pub type Advance<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Writes the tree to an empty file that is open for reading and writing.
pub fn write(tree: &Tree, contents: &dyn Contents, image: &File, advance: Advance) -> Result<(), WriteError> {
    writer::write(tree, contents, image, advance)
}

/// Writes a host folder, which may be in use, as an image. Symlinks are stored, never followed; other file systems
/// mounted below show as empty folders.
pub fn write_folder(folder: &std::path::Path, image: &File) -> Result<(), FolderImageError> {
    let (tree, contents) = folder::read(folder, Limits::default())?;
    Ok(write(&tree, &contents, image, &mut |_, _| true)?)
}
