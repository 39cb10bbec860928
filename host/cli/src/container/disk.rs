//! A container's disks: the image's, which it keeps by a name of its own, and the writable one, a copy of an empty ext4 file
//! system that was made once.
//!
//! Making a file system takes tens of milliseconds and a program; copying its few blocks of metadata into a sparse file
//! takes less than one. On a file system with reflinks nothing is copied at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek64};

use super::templates;

/// No smaller disk is made: the file system's own tables need room.
pub const SMALLEST: u64 = 16 << 20;
/// No larger disk is made: 32 bits number the blocks of 4 KiB.
pub const LARGEST: u64 = 15 << 40;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// `mke2fs` is not there.
    #[error(
        "mke2fs is missing, it makes the containers' writable disks: install e2fsprogs (or run with --read-only)"
    )]
    NoMke2fs,
    /// `mke2fs` failed.
    #[error("mke2fs could not make {path}: {message}")]
    Mke2fs {
        /// The template.
        path: PathBuf,
        /// Its standard error.
        message: String,
    },
    /// The file system below cannot hold a file of that size.
    #[error("the file system of {path} holds no file of {gib} GiB; ask for less with --storage-size")]
    TooLarge {
        /// The file that was to have that size.
        path: PathBuf,
        /// As asked for.
        gib: u64,
    },
    /// The image's disk went before the container had it.
    #[error(
        "the image's disk {0} was removed just now; get the image again with `theca image pull` or `theca image import`"
    )]
    ImageGone(PathBuf),
    /// A file could not be written or read.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes an empty ext4 disk of `bytes` at `target`, which must not exist yet. Templates are kept in `templates`.
///
/// `journal`: whether the disk is to survive a crash of its guest. One that goes with its first run need not.
pub fn create(templates: &Path, target: &Path, bytes: u64, journal: bool) -> Result<(), DiskError> {
    let source = templates::open(templates, bytes, journal)?;
    let failed = |action| move |source| DiskError::Io { action, path: target.to_owned(), source };
    let copy = OpenOptions::new().write(true).create_new(true).open(target).map_err(failed("create"))?;
    copy_sparse(&source, &copy, bytes).map_err(failed("fill"))
}

/// Gives the disk of an image a second name, so that it stays when the image is removed. False if the two places are not on
/// one file system, or it knows no such names.
pub fn pin(image: &Path, target: &Path) -> Result<bool, DiskError> {
    match fs::hard_link(image, target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DiskError::ImageGone(image.to_owned())),
        Err(_) => Ok(false),
    }
}

/// Copies what `source` has data for; holes stay holes.
pub(super) fn copy_sparse(source: &File, target: &File, bytes: u64) -> io::Result<()> {
    target.set_len(bytes)?;
    let end = i64::try_from(bytes).map_err(io::Error::other)?;
    let mut position = 0;
    while position < end {
        let data = match lseek64(source, position, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = lseek64(source, data, Whence::SeekHole)?;
        copy_range(source, target, data, hole.min(end))?;
        position = hole;
    }
    Ok(())
}

fn copy_range(source: impl AsFd + Copy, target: impl AsFd + Copy, from: i64, to: i64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (from, from);
    while read_at < to {
        let wanted = usize::try_from(to - read_at).map_err(io::Error::other)?;
        if copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), wanted)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_data_and_keeps_the_holes() {
        let folder = tempfile::tempdir().unwrap();
        let source = File::create_new(folder.path().join("a")).unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"first", 0).unwrap();
        source.write_all_at(b"last", (64 << 20) - 4).unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        copy_sparse(&File::open(source).unwrap(), &File::create_new(&target).unwrap(), 64 << 20).unwrap();

        let target = File::open(target).unwrap();
        let mut last = [0; 4];
        target.read_exact_at(&mut last, (64 << 20) - 4).unwrap();
        assert_eq!(&last, b"last");
        let metadata = target.metadata().unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_pinned_disk_outlives_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let (image, pinned) = (folder.path().join("image"), folder.path().join("pinned"));
        fs::write(&image, b"disk").unwrap();
        assert!(pin(&image, &pinned).unwrap());
        fs::remove_file(&image).unwrap();
        assert_eq!(fs::read(&pinned).unwrap(), b"disk");
        assert!(matches!(pin(&image, &folder.path().join("late")), Err(DiskError::ImageGone(_))));
    }
}
