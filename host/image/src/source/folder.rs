//! Files of a layout that is a folder. Symlinks may lead around inside of it and nowhere else.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Files, Opened, SourceError};

/// An open folder.
pub struct FolderFiles {
    root: OwnedFd,
}

impl FolderFiles {
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| SourceError::Read { path: path.display().to_string(), source: errno.into() })?;
        Ok(Self { root })
    }
}

impl Files for FolderFiles {
    fn open(&self, path: &str) -> Result<Option<Opened<'_>>, SourceError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let failed = |errno: Errno| SourceError::Read { path: path.to_owned(), source: errno.into() };
        let file = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SourceError::Document {
                what: path.to_owned(),
                problem: "is not a regular file".into(),
            });
        }
        Ok(Some(Opened { size: u64::try_from(stat.st_size).unwrap_or(0), data: Box::new(file) }))
    }
}
