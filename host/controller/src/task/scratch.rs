//! Files without a name for what is made of a folder: on disk, for in memory it would take as much of the host's as the
//! folder is large.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::warn;

/// Names that are tried where a file cannot be made without one.
const ATTEMPTS: u32 = 100;

/// An empty file that goes with its last descriptor: in `folder`, which is made, else in memory.
pub fn file(folder: &Path) -> io::Result<File> {
    match on_disk(folder) {
        Ok(file) => Ok(file),
        Err(error) => {
            warn!(folder = %folder.display(), %error, "no file could be made here: the image takes memory instead");
            let memory: OwnedFd = memfd_create(c"theca-rootfs", MFdFlags::MFD_CLOEXEC)?;
            Ok(memory.into())
        }
    }
}

fn on_disk(folder: &Path) -> io::Result<File> {
    // What containers are made of is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unnamed = open(libc::O_TMPFILE, folder);
    match unnamed.as_ref().map_err(io::Error::raw_os_error) {
        // The file system cannot do that, open(2).
        Err(Some(libc::EOPNOTSUPP | libc::EISDIR)) => unlinked(folder),
        _ => unnamed,
    }
}

/// A file that has a name for a moment.
fn unlinked(folder: &Path) -> io::Result<File> {
    let mut attempt = 0;
    loop {
        let path = folder.join(format!("rootfs-{}-{attempt}", process::id()));
        match open(libc::O_CREAT | libc::O_EXCL, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < ATTEMPTS => attempt += 1,
            made => {
                let file = made?;
                fs::remove_file(path)?;
                return Ok(file);
            }
        }
    }
}

fn open(how: i32, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(how).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn works(mut file: File) {
        file.write_all(b"image").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "image");
    }

    #[test]
    fn a_file_is_made_where_it_is_wanted_and_has_no_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data/tmp");
        for make in [file, on_disk, unlinked] {
            let file = make(&folder).unwrap();
            let (made, here) = (file.metadata().unwrap(), fs::metadata(&folder).unwrap());
            assert_eq!((made.dev(), made.nlink()), (here.dev(), 0));
            assert_eq!(here.permissions().mode() & 0o777, 0o700);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            works(file);
        }
    }

    #[test]
    fn where_none_can_be_made_memory_serves() {
        let root = tempfile::tempdir().unwrap();
        let taken = root.path().join("taken");
        fs::write(&taken, "").unwrap();
        assert!(on_disk(&taken).is_err());
        works(file(&taken).unwrap());
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let taken = root.path().join(format!("rootfs-{}-0", process::id()));
        fs::write(&taken, "left").unwrap();
        works(unlinked(root.path()).unwrap());
        assert_eq!(fs::read_to_string(taken).unwrap(), "left");
    }
}
