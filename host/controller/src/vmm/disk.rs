//! Disk images: opened by the keeper, checked, and never writable for two sandboxes at once.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::sys::flock;

/// Bytes of a sector, whatever the medium.
const SECTOR: u64 = 512;

/// Why an image cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It could not be opened.
    #[error("failed to open the disk image {}", path.display())]
    Open {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a symbolic link where none is followed.
    #[error("the disk image {} is a symbolic link: name the file itself", .0.display())]
    Link(PathBuf),
    /// It is a folder, a FIFO or the like.
    #[error("{} is neither a regular file nor a block device and cannot be a disk", .0.display())]
    NotADisk(PathBuf),
    /// A disk without a sector.
    #[error("the disk image {} is empty", .0.display())]
    Empty(PathBuf),
    /// Another sandbox writes to it.
    #[error("the writable disk image {} is in use by another sandbox", .0.display())]
    InUse(PathBuf),
}

/// What makes two paths the same image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskId {
    device: u64,
    inode: u64,
}

/// An open image.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
    id: DiskId,
    bytes: u64,
    read_only: bool,
}

/// The size of a file or block device, in whole sectors: what a guest sees of it.
fn size(mut file: &File) -> io::Result<u64> {
    Ok(file.seek(SeekFrom::End(0))? / SECTOR * SECTOR)
}

impl DiskFile {
    /// Opens the image at `path`. Symbolic links are followed only below `/dev`, where device names are links.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.to_owned(), source };
        let is_device_name = path.starts_with("/dev");
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        // O_NONBLOCK: opening a FIFO by mistake must not hang. It means nothing to files and disks.
        options.custom_flags(libc::O_NONBLOCK | if is_device_name { 0 } else { libc::O_NOFOLLOW });
        let file = match options.open(path) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(DiskError::Link(path.to_owned()));
            }
            Err(error) if error.raw_os_error() == Some(libc::EISDIR) => {
                return Err(DiskError::NotADisk(path.to_owned()));
            }
            other => other.map_err(failed)?,
        };
        let metadata = file.metadata().map_err(failed)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::NotADisk(path.to_owned()));
        }
        if kind.is_file() && metadata.len() == 0 {
            return Err(DiskError::Empty(path.to_owned()));
        }
        let id = if kind.is_block_device() {
            // Two nodes may name one device.
            DiskId { device: metadata.rdev(), inode: 0 }
        } else {
            DiskId { device: metadata.dev(), inode: metadata.ino() }
        };
        let bytes = size(&file).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), id, bytes, read_only })
    }

    /// Makes this sandbox the image's only writer, for as long as any copy of the descriptor is open, the VMM's included.
    pub fn lock(&self) -> Result<(), DiskError> {
        match flock::try_lock(&self.file) {
            Ok(true) => Ok(()),
            Ok(false) => Err(DiskError::InUse(self.path.clone())),
            Err(source) => Err(DiskError::Open { path: self.path.clone(), source }),
        }
    }

    /// An image made by the keeper itself; nobody else can name it.
    pub fn private(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let id = DiskId { device: metadata.dev(), inode: metadata.ino() };
        let bytes = size(&file)?;
        Ok(Self { file, path: PathBuf::new(), id, bytes, read_only: true })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which image it is.
    pub fn id(&self) -> DiskId {
        self.id
    }

    /// Its size in bytes, whole sectors.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the guest may only read it.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Another descriptor of the same open file, to send to the VMM.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, [0; 4096]).unwrap();
        path
    }

    #[test]
    fn a_read_only_image_is_shared_and_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path(), "base.erofs");
        let (one, two) = (DiskFile::open(&path, true).unwrap(), DiskFile::open(&path, true).unwrap());
        assert_eq!(one.id(), two.id());
    }

    #[test]
    fn a_writable_image_has_one_writer_until_its_last_descriptor_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path(), "disk.ext4");
        let (first, second) = (DiskFile::open(&path, false).unwrap(), DiskFile::open(&path, false).unwrap());
        first.lock().unwrap();
        let at_the_vmm = first.try_clone().unwrap();
        assert!(matches!(second.lock(), Err(DiskError::InUse(_))));
        drop(first);
        assert!(matches!(second.lock(), Err(DiskError::InUse(_))));
        drop(at_the_vmm);
        second.lock().unwrap();
    }

    #[test]
    fn what_is_no_disk_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path(), "base.erofs");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(matches!(DiskFile::open(&link, true), Err(DiskError::Link(_))));
        assert!(matches!(DiskFile::open(&fifo, true), Err(DiskError::NotADisk(_))));
        assert!(matches!(DiskFile::open(folder.path(), true), Err(DiskError::NotADisk(_))));
        assert!(matches!(DiskFile::open(folder.path(), false), Err(DiskError::NotADisk(_))));
        assert!(matches!(DiskFile::open(&empty, true), Err(DiskError::Empty(_))));
        assert!(matches!(DiskFile::open(&folder.path().join("none"), true), Err(DiskError::Open { .. })));
    }
}
