//! Where things are: the two roots, and what a container's folder holds.
//!
//! ```text
//! /var/lib/theca/                       THECA_ROOT
//!   images/                             the image store
//!   templates/                          empty ext4 disks to copy
//!   tmp/                                the keepers': images of folders, without names
//!   names/<name> ─▶ <id>                who has which name
//!   containers/<id>/
//!     record.json                       what was asked for and how it went
//!     lock                              held by the command that drives the container
//!     bundle/config.json                the OCI bundle
//!     image.erofs                       the image's disk, by a second name
//!     disk.img                          the writable layer
//!     container.log                     output, in the CRI log format
//!     stdio/                            FIFOs, while a command opens them
//! /run/theca/default/<id>/              THECA_STATE; the keeper's: sockets, state, console
//! ```

use std::env;
use std::path::{Path, PathBuf};

use theca_image::Digest;

use super::id::ContainerId;

/// containerd's word for the space that ids live in; the command uses one.
pub const NAMESPACE: &str = "default";

const KEEPER_SOCKET: &str = "keeper.sock";
/// unix(7)
const MAX_SOCKET_PATH: usize = 107;

/// The folders that everything is below.
#[derive(Clone, Debug)]
pub struct Roots {
    data: PathBuf,
    state: PathBuf,
}

impl Roots {
    /// From `THECA_ROOT` and `THECA_STATE`, else the installed places. Absolute: keepers run in other folders.
    pub fn from_env() -> Self {
        let root = |variable: &str, default: &str| {
            let named = env::var_os(variable).filter(|value| !value.is_empty());
            let path = named.map_or_else(|| default.into(), PathBuf::from);
            // It fails only where there is no working folder, and then nothing relative can be found.
            std::path::absolute(&path).unwrap_or(path)
        };
        Self { data: root("THECA_ROOT", "/var/lib/theca"), state: root("THECA_STATE", "/run/theca") }
    }

    /// Below folders of the caller's.
    #[cfg(test)]
    pub fn below(folder: &Path) -> Self {
        Self { data: folder.join("data"), state: folder.join("state") }
    }

    /// What stays over a restart of the machine.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What does not.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// All containers' folders.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// All names.
    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// Disks to copy.
    pub fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// One container's folder.
    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir(self.containers().join(id.as_str()))
    }

    /// The folder that the keeper of a sandbox owns while it lives. A keeper moves it where the path of its socket is too long for
    /// the kernel (`run_dir.rs` of the controller).
    pub fn sandbox(&self, id: &ContainerId) -> PathBuf {
        let plain = self.state.join(NAMESPACE).join(id.as_str());
        if plain.as_os_str().len() + KEEPER_SOCKET.len() < MAX_SOCKET_PATH {
            return plain;
        }
        let digest = Digest::of(format!("{NAMESPACE}/{}", id.as_str()).as_bytes()).hex();
        self.state.join(".long").join(&digest[..16])
    }

    /// Where the keeper of a sandbox listens.
    pub fn keeper_socket(&self, id: &ContainerId) -> PathBuf {
        self.sandbox(id).join(KEEPER_SOCKET)
    }
}

/// One container's folder.
#[derive(Clone, Debug)]
pub struct ContainerDir(PathBuf);

impl ContainerDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// See the module's drawing.
    pub fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    /// See the module's drawing.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// See the module's drawing.
    pub fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// See the module's drawing.
    pub fn image(&self) -> PathBuf {
        self.0.join("image.erofs")
    }

    /// See the module's drawing.
    pub fn disk(&self) -> PathBuf {
        self.0.join("disk.img")
    }

    /// See the module's drawing.
    pub fn log(&self) -> PathBuf {
        self.0.join("container.log")
    }

    /// The guest's console of the last run that failed or ended, when it was kept.
    pub fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }

    /// See the module's drawing.
    pub fn stdio(&self) -> PathBuf {
        self.0.join("stdio")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_where_its_keeper_puts_it() {
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let sandbox = |state: &str| Roots { data: "/data".into(), state: state.into() }.sandbox(&id);
        let longest_plain = "/run/theca-of-22-bytes";
        assert_eq!(sandbox(longest_plain), Path::new(longest_plain).join(NAMESPACE).join(id.as_str()));
        // The same is in host/controller/src/run_dir.rs.
        let long = "/run/theca-of-another-name";
        assert_eq!(sandbox(long), Path::new(long).join(".long/03a5a2398776f765"));
    }
}
