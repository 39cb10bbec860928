//! Reads a host folder as a [`Tree`]: the way of `--rootfs DIR`.
//!
//! The folder may be written by others meanwhile, and by somebody hostile. Every open starts at the folder's own
//! descriptor and resolves beneath it without symlinks (openat2), so nothing outside can be reached. What vanishes
//! between listing and reading is left out; a file whose bytes vanish when they are copied is an error, because its
//! size is promised by then. Other mounts below are not entered: they show as the empty folders they cover.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use thiserror::Error;

use crate::erofs::{Contents, is_storable};
use crate::limits::{Budget, LimitError, Limits, XATTRS_MAX};
use crate::tree::{Attributes, Content, Device, Inode, InodeId, Kind, Time, Tree, TreeError, Xattrs, lossy};

/// Why a folder could not be read.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A call failed.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An entry has no place in an image.
    #[error("failed to take {path} into an image")]
    Entry {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: TreeError,
    },
    /// Too much.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// The tree of a folder, and the means to read its files.
pub fn read(folder: &Path, limits: Limits) -> Result<(Tree, FolderContents), FolderError> {
    let io_error =
        |action, errno: Errno| FolderError::Io { action, path: folder.to_owned(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(folder, flags, Mode::empty()).map_err(|errno| io_error("open folder", errno))?;
    // Attributes of symlinks and devices can only be had by path, and this path is pinned to an open folder.
    rustix::fs::access(proc_path(&root, b""), rustix::fs::Access::EXISTS)
        .map_err(|errno| io_error("find in /proc the open folder", errno))?;
    let mut reader = Reader {
        tree: Tree::new(),
        contents: FolderContents { root, paths: Vec::new(), open: RefCell::new(None) },
        budget: Budget::new(limits),
        linked: HashMap::new(),
        folders: VecDeque::from([(Tree::ROOT, PathBuf::from("."))]),
        shown: folder,
    };
    while let Some((id, path)) = reader.folders.pop_front() {
        reader.folder(id, &path)?;
    }
    Ok((reader.tree, reader.contents))
}

struct Reader<'a> {
    tree: Tree,
    contents: FolderContents,
    budget: Budget,
    /// Inodes with several names, by device and number.
    linked: HashMap<(u64, u64), InodeId>,
    folders: VecDeque<(InodeId, PathBuf)>,
    shown: &'a Path,
}

impl Reader<'_> {
    fn folder(&mut self, id: InodeId, path: &Path) -> Result<(), FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = match self.contents.open_beneath(path, flags, ResolveFlags::NO_XDEV) {
            Ok(fd) => fd,
            Err(Errno::XDEV | Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if id != Tree::ROOT => {
                return Ok(());
            }
            Err(errno) => return Err(self.failed("open", path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed("examine", path, errno))?;
        let xattrs = read_xattrs(&Subject::Open(&fd))
            .map_err(|errno| self.failed("read attributes of", path, errno))?;
        *self.tree.attributes_mut(id) = attributes(&stat, xattrs);
        let entries = Dir::read_from(&fd).map_err(|errno| self.failed("list", path, errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| self.failed("list", path, errno))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.entry(id, &fd, path, name)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: InodeId,
        fd: &OwnedFd,
        folder: &Path,
        name: &[u8],
    ) -> Result<(), FolderError> {
        let path = folder.join(std::ffi::OsStr::from_bytes(name));
        let stat = match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("examine", &path, errno)),
        };
        let refused = |source| FolderError::Entry { path: self.shown.join(&path), source };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            self.budget.take_entry(name.len())?;
            let attributes = attributes(&stat, Xattrs::new());
            let id = self.tree.add_directory(parent, name, attributes, 0).map_err(refused)?;
            self.folders.push_back((id, path));
            return Ok(());
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(id) = self.linked.get(&identity) {
            self.budget.take_entry(name.len())?;
            return self.tree.name(parent, name, *id, 0).map_err(refused);
        }
        let Some(kind) = self.kind(file_type, fd, &path, name, &stat)? else { return Ok(()) };
        let xattrs = match read_xattrs(&Subject::Path(proc_path(fd, name))) {
            Ok(xattrs) => xattrs,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failed("read attributes of", &path, errno)),
        };
        let held = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.budget.take_entry(name.len() + path.as_os_str().len() + held)?;
        let inode = Inode { attributes: attributes(&stat, xattrs), kind };
        let refused = |source| FolderError::Entry { path: self.shown.join(&path), source };
        let id = self.tree.add(parent, name, inode, 0).map_err(refused)?;
        if stat.st_nlink > 1 {
            self.linked.insert(identity, id);
        }
        Ok(())
    }

    /// What a file that is no folder is; `None` if it vanished.
    fn kind(
        &mut self,
        file_type: FileType,
        fd: &OwnedFd,
        path: &Path,
        name: &[u8],
        stat: &Stat,
    ) -> Result<Option<Kind>, FolderError> {
        let device =
            Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) };
        Ok(Some(match file_type {
            FileType::RegularFile => {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                self.budget.take_unpacked(size)?;
                let key = self.contents.paths.len() as u64;
                self.contents.paths.push((path.to_owned(), stat.st_ino));
                Kind::File(Content { key, size })
            }
            FileType::Symlink => match rustix::fs::readlinkat(fd, name, Vec::new()) {
                Ok(target) => Kind::Symlink(target.to_bytes().into()),
                Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                Err(errno) => return Err(self.failed("read link", path, errno)),
            },
            FileType::CharacterDevice => Kind::CharDevice(device),
            FileType::BlockDevice => Kind::BlockDevice(device),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Directory | FileType::Unknown => return Ok(None),
        }))
    }

    fn failed(&self, action: &'static str, path: &Path, errno: Errno) -> FolderError {
        FolderError::Io { action, path: self.shown.join(path), source: errno.into() }
    }
}

fn attributes(stat: &Stat, xattrs: Xattrs) -> Attributes {
    Attributes {
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs,
    }
}

/// The last component of this path is not followed by the calls that take it.
fn proc_path(folder: &OwnedFd, name: &[u8]) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(std::ffi::OsStr::from_bytes(name))
}

enum Subject<'a> {
    Open(&'a OwnedFd),
    Path(PathBuf),
}

impl Subject<'_> {
    fn list(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(&self, name: &[u8], buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
        }
    }
}

fn read_xattrs(subject: &Subject) -> rustix::io::Result<Xattrs> {
    let mut names = [0; 1024];
    let names = match subject.list(&mut names) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Ok(length) => names[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut names = vec![0; XATTRS_MAX];
            let length = subject.list(&mut names)?;
            names.truncate(length);
            names
        }
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0; XATTRS_MAX];
    let mut xattrs = Xattrs::new();
    for name in names.split(|byte| *byte == 0).filter(|name| is_storable(name)) {
        match subject.get(name, &mut value) {
            Ok(length) => drop(xattrs.insert(name.into(), value[..length].into())),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(xattrs)
}

/// Reads the files of a folder by the paths they were found at.
#[derive(Debug)]
pub struct FolderContents {
    root: OwnedFd,
    paths: Vec<(PathBuf, u64)>,
    open: RefCell<Option<(u64, File)>>,
}

impl FolderContents {
    fn open_beneath(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let resolve =
            resolve | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens a file anew; another one at its path, or none, has changed under us.
    fn open(&self, key: u64) -> io::Result<File> {
        let (path, number) = &self.paths[key as usize];
        let file = File::from(self.open_beneath(path, OFlags::RDONLY, ResolveFlags::empty())?);
        let stat = rustix::fs::fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if regular && stat.st_ino == *number {
            Ok(file)
        } else {
            Err(io::ErrorKind::StaleNetworkFileHandle.into())
        }
    }
}

impl Contents for FolderContents {
    fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut open = self.open.borrow_mut();
        let read = match &*open {
            Some((key, file)) if *key == content.key => file.read_exact_at(buffer, offset),
            _ => self.open(content.key).and_then(|file| {
                let (_, file) = open.insert((content.key, file));
                file.read_exact_at(buffer, offset)
            }),
        };
        read.map_err(|error| {
            let path = lossy(self.paths[content.key as usize].0.as_os_str().as_bytes());
            io::Error::new(error.kind(), format!("{path} changed while the folder was read: {error}"))
        })
    }
}
