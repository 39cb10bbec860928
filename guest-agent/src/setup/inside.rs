//! Paths of a container, resolved below its root whatever symbolic links the image has.
//!
//! `openat2` with `RESOLVE_IN_ROOT` makes the kernel treat the root as `/` for every step, absolute links and `..`
//! included. What is found is used through its descriptor, as `/proc/self/fd/N`, never through its path again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstat, mkdirat};

use super::Result;
use crate::process::handshake::{Attempt, Failure};

/// As many links in a row as are followed by hand; the kernel's own limit is 40.
const MOST_LINKS: usize = 8;

/// A container's root before it is entered.
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens the root that is mounted at `path` in the guest.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty())
            .attempt(|| format!("open the root file system at {}", path.display()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens the root again, for when something was mounted over it.
    pub fn reopen(&mut self) -> Result<()> {
        *self = Self::open(&self.path)?;
        Ok(())
    }

    /// The root folder.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Finds what is at `path` in the container.
    pub fn find(&self, path: &Path) -> std::result::Result<OwnedFd, Errno> {
        self.open_at(path, OFlag::O_PATH)
    }

    /// Opens the multiplexer of the container's own terminals.
    pub fn open_terminal(&self) -> Result<File> {
        let path = Path::new("/dev/pts/ptmx");
        let fd = self.open_at(path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK);
        fd.map(File::from).attempt(|| format!("open {}; a terminal needs a devpts mount", path.display()))
    }

    fn open_at(&self, path: &Path, flags: OFlag) -> std::result::Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(&self.fd, path, how) {
                // A rename elsewhere in the guest disturbed the walk.
                Err(Errno::EAGAIN) => continue,
                result => return result,
            }
        }
    }

    /// Finds a folder and makes it and its parents if they are missing.
    pub fn make_folder(&self, path: &Path) -> Result<OwnedFd> {
        self.make(path, Kind::Folder)
    }

    /// Finds a file, or anything else that is no folder, and makes an empty one if it is missing: where a symbolic link
    /// points to, if there is one that leads nowhere.
    pub fn make_file(&self, path: &Path) -> Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.dangling(&path) {
                Some(target) => path = target,
                None => break,
            }
        }
        self.make(&path, Kind::File)
    }

    /// Where a symbolic link points to that leads nowhere.
    fn dangling(&self, path: &Path) -> Option<PathBuf> {
        self.find(path).err().filter(|error| *error == Errno::ENOENT)?;
        let link = self.open_at(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?;
        let target = readlinkat(&link, "").ok()?;
        Some(path.parent()?.join(target))
    }

    fn make(&self, path: &Path, kind: Kind) -> Result<OwnedFd> {
        let action = || format!("make {} in the container", path.display());
        match self.find(path) {
            Ok(fd) => {
                let folder = is_folder(fd.as_fd()).attempt(action)?;
                if folder == (kind == Kind::Folder) {
                    return Ok(fd);
                }
                return Err(Failure::new(
                    action(),
                    if folder { "it is a folder" } else { "it is not a folder" },
                ));
            }
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error).attempt(action),
        }
        let (parent, name) = self.parent_of(path)?;
        match kind {
            Kind::Folder => match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error).attempt(action),
            },
            Kind::File => {
                let flags =
                    OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).attempt(action)?;
            }
        }
        self.find(path).attempt(action)
    }

    /// The folder that something is in, made if it is missing, and the name there.
    pub fn parent_of<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a Path)> {
        let invalid = || Failure::new(format!("find {} in the container", path.display()), "it has no name");
        let name = match path.components().next_back() {
            Some(Component::Normal(name)) => Path::new(name),
            _ => return Err(invalid()),
        };
        let parent = path.parent().ok_or_else(invalid)?;
        Ok((self.make_folder(parent)?, name))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Folder,
    File,
}

/// Whether a descriptor is of a folder.
pub fn is_folder(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

/// A path that names exactly what a descriptor does, for calls that take paths only. It needs the guest's `/proc`.
pub fn by_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
