//! Stand-ins at the real seams: a guest behind a vsock socket, an agent, a VMM process.

pub mod agent;
pub mod guest;
pub mod vmm;

use std::path::{Path, PathBuf};

/// Makes a FIFO and answers its path.
pub fn fifo(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    path
}
