//! The guest's own file systems.
//!
//! The kernel unpacks the initrd into its first root, which can never be left for good: `pivot_root`, which containers
//! need, works from a mount on top of it only. So the agent makes a small root of its own there and moves into it. What
//! lies below, the agent's program, becomes read-only for everybody: a container that finds a way to it (as in
//! `/proc/<pid>/exe`) cannot change it.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

/// Where the new root is made.
const NEW_ROOT: &str = "/root";

/// Why a file system is not there.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct MountError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

trait Attempt<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, MountError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, MountError> {
        self.map_err(|error| MountError { action, path: path.to_owned(), source: error.into() })
    }
}

struct Mount {
    path: &'static str,
    fs_type: &'static str,
    flags: MsFlags,
    options: &'static str,
}

const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);

const MOUNTS: &[Mount] = &[
    Mount { path: "proc", fs_type: "proc", flags: PLAIN, options: "" },
    Mount { path: "sys", fs_type: "sysfs", flags: PLAIN, options: "" },
    Mount {
        path: "sys/fs/cgroup",
        fs_type: "cgroup2",
        flags: PLAIN,
        options: "nsdelegate,memory_recursiveprot",
    },
    Mount { path: "dev", fs_type: "devtmpfs", flags: DEVICES, options: "mode=755" },
    Mount { path: "dev/pts", fs_type: "devpts", flags: DEVICES, options: "gid=5,mode=620,ptmxmode=666" },
    Mount { path: "dev/shm", fs_type: "tmpfs", flags: PLAIN, options: "mode=1777" },
    Mount { path: "run", fs_type: "tmpfs", flags: PLAIN, options: "mode=755" },
];

/// Links that `devtmpfs` does not have.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Makes the root, mounts everything in it, and moves there.
pub fn set_up() -> Result<(), MountError> {
    let root = Path::new(NEW_ROOT);
    make_folder(root)?;
    mount(
        Some("root"),
        root,
        Some("tmpfs"),
        MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        Some("mode=755,size=1m"),
    )
    .attempt("mount", root)?;
    for Mount { path, fs_type, flags, options } in MOUNTS {
        let path = root.join(path);
        make_folder(&path)?;
        mount(Some(*fs_type), &path, Some(*fs_type), *flags, Some(*options)).attempt("mount", &path)?;
    }
    let first = Path::new("/");
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, first, None::<&str>, read_only, None::<&str>).attempt("make read-only", first)?;
    chdir(root).attempt("enter", root)?;
    mount(Some("."), first, None::<&str>, MsFlags::MS_MOVE, None::<&str>).attempt("move", root)?;
    chroot(".").attempt("enter", first)?;
    chdir(first).attempt("enter", first)?;
    for (target, path) in LINKS {
        symlink(target, path).attempt("link", Path::new(path))?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), MountError> {
    fs::create_dir_all(path).attempt("make", path)
}
