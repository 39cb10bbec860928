//! A sandbox's folder below `/run/theca`: sockets, logs and the record of who runs it.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use theca_image::Digest;

use crate::id::{Namespace, SandboxId};

/// `sun_path` holds 108 bytes with the final zero, unix(7).
const MAX_SOCKET_PATH: usize = 107;
/// The longest name of a socket in a folder.
const LONGEST_SOCKET: &str = "/keeper.sock";
/// Where folders are whose names would be too long for that. No namespace begins with a dot.
const LONG: &str = ".long";
/// Digits of their names.
const DIGITS: usize = 16;
/// How often others may take away the namespace's folder before a sandbox's is in it.
const ATTEMPTS: u32 = 100;

/// Why a run folder or a socket in it could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The folder is there already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The folder could not be made.
    #[error("failed to create {}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path is longer than a socket's name may be.
    #[error("the socket path {} has more than {MAX_SOCKET_PATH} bytes: use a shorter THECA_STATE", .0.display())]
    TooLong(PathBuf),
    /// The socket could not be bound.
    #[error("failed to listen on {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder could not be removed.
    #[error("failed to remove {}", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// `THECA_STATE`, or `/run/theca`.
pub fn state_root() -> PathBuf {
    env::var_os("THECA_STATE")
        .filter(|root| !root.is_empty())
        .map_or_else(|| "/run/theca".into(), PathBuf::from)
}

/// `THECA_ROOT`, or `/var/lib/theca`.
pub fn data_root() -> PathBuf {
    env::var_os("THECA_ROOT")
        .filter(|root| !root.is_empty())
        .map_or_else(|| "/var/lib/theca".into(), PathBuf::from)
}

/// The folder `<root>/<namespace>/<sandbox>`, or `<root>/.long/<digits>` where that leaves no room for the sockets' names: then the
/// digits are those of a digest of both names. The value is only its name: nothing happens on drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Names the folder without touching it.
    pub fn new(root: &Path, namespace: &Namespace, sandbox: &SandboxId) -> Self {
        let path = root.join(namespace.as_str()).join(sandbox.as_str());
        if path.as_os_str().len() + LONGEST_SOCKET.len() <= MAX_SOCKET_PATH {
            return Self { path };
        }
        let mut name = Digest::of(format!("{namespace}/{sandbox}").as_bytes()).hex();
        name.truncate(DIGITS);
        Self { path: root.join(LONG).join(name) }
    }

    /// Makes the folder, which must not be there yet; only root may enter it.
    pub fn create(&self) -> Result<(), RunDirError> {
        let made = |source| RunDirError::Create { path: self.path.clone(), source };
        // The end of another sandbox may take away the namespace's folder, which is empty: before ours is in it, or, which std calls
        // AlreadyExists, while it is looked at.
        let mut outcome = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..ATTEMPTS {
            if let Some(parent) = self.path.parent() {
                match fs::DirBuilder::new().recursive(true).mode(0o711).create(parent) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        outcome = error;
                        continue;
                    }
                    other => other.map_err(made)?,
                }
            }
            match fs::DirBuilder::new().mode(0o700).create(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => outcome = error,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(RunDirError::Exists(self.path.clone()));
                }
                other => return other.map_err(made),
            }
        }
        Err(made(outcome))
    }

    /// Listens on the socket at `path` in this folder; only the owner may connect.
    pub fn listen(&self, path: &Path) -> Result<UnixListener, RunDirError> {
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(RunDirError::TooLong(path.to_owned()));
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        bound.map_err(|source| RunDirError::Listen { path: path.to_owned(), source })
    }

    /// Removes the folder and what is in it, following no symbolic link; then the namespace's folder if it is empty.
    pub fn remove(&self) -> Result<(), RunDirError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(RunDirError::Remove { path: self.path.clone(), source: error });
            }
            _ => {}
        }
        if let Some(namespace) = self.path.parent() {
            // Another sandbox may live in it, or may just be making it: not ours to insist.
            let _ = fs::remove_dir(namespace);
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The task API's socket.
    pub fn keeper_socket(&self) -> PathBuf {
        self.path.join("keeper.sock")
    }

    /// The socket of a container's own endpoint, by its number. Its name is no longer than the others'.
    pub fn shim_socket(&self, number: u64) -> PathBuf {
        self.path.join(format!("shim-{number}"))
    }

    /// The socket behind which the guest's vsock ports are.
    pub fn vsock_socket(&self) -> PathBuf {
        self.path.join("vsock.sock")
    }

    /// What the guest's console printed.
    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    /// What the keeper and its VMM have to say.
    pub fn keeper_log(&self) -> PathBuf {
        self.path.join("keeper.log")
    }

    /// The record of the processes.
    pub fn state_file(&self) -> PathBuf {
        self.path.join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder(root: &Path, sandbox: &str) -> RunDir {
        RunDir::new(root, &"tests".parse().unwrap(), &sandbox.parse().unwrap())
    }

    #[test]
    fn a_folder_is_made_once_and_removed_with_its_namespace() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path(), "web");
        folder.create().unwrap();
        assert!(matches!(folder.create(), Err(RunDirError::Exists(_))));
        fs::write(folder.state_file(), "{}").unwrap();
        folder.remove().unwrap();
        folder.remove().unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_is_made_while_others_remove_its_namespace() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for name in ["web", "db"] {
                let folder = folder(root.path(), name);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        folder.create().unwrap();
                        folder.remove().unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_owner_reaches_a_socket() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(root.path(), "web");
        folder.create().unwrap();
        let _listener = folder.listen(&folder.keeper_socket()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.path()), mode(&folder.keeper_socket())), (0o700, 0o600));
    }

    #[test]
    fn a_socket_path_too_long_for_the_kernel_says_what_to_do() {
        let root = format!("/run/{}", "theca-with-a-rather-long-name-".repeat(3));
        let folder = folder(Path::new(&root), "web");
        let error = folder.listen(&folder.keeper_socket()).unwrap_err().to_string();
        assert!(error.ends_with("use a shorter THECA_STATE"), "{error}");
    }

    #[test]
    fn every_valid_name_has_room_for_every_socket() {
        let root = Path::new("/run/theca");
        let long = "x".repeat(crate::id::MAX_LENGTH);
        let mut paths = std::collections::BTreeSet::new();
        for (namespace, sandbox) in
            [("default", "web"), ("default", &*long), (&*long, "web"), (&*long, &*long), (&long[1..], &*long)]
        {
            let folder = RunDir::new(root, &namespace.parse().unwrap(), &sandbox.parse().unwrap());
            assert!(folder.shim_socket(999_999).as_os_str().len() <= MAX_SOCKET_PATH, "{folder:?}");
            assert!(paths.insert(folder.path().to_owned()), "another's: {folder:?}");
            let plain = root.join(namespace).join(sandbox);
            assert_eq!(folder.path() == plain, namespace.len() + sandbox.len() <= 83, "{folder:?}");
        }
    }

    #[test]
    fn a_long_folders_name_is_the_one_that_the_command_expects() {
        let folder = RunDir::new(
            Path::new("/run/theca-of-another-name"),
            &"default".parse().unwrap(),
            &"ab".repeat(32).parse().unwrap(),
        );
        // The same is in host/cli/src/container/paths.rs.
        assert_eq!(folder.path(), Path::new("/run/theca-of-another-name/.long/03a5a2398776f765"));
    }

    #[test]
    fn a_folder_of_a_long_name_is_made_listened_in_and_removed_like_any_other() {
        let root = tempfile::tempdir().unwrap();
        let folder = folder(&root.path().join("run-of-these-tests"), &"x".repeat(76));
        assert!(folder.path().parent().unwrap().ends_with(LONG));
        folder.create().unwrap();
        let _listener = folder.listen(&folder.shim_socket(10)).unwrap();
        folder.remove().unwrap();
        assert_eq!(fs::read_dir(root.path().join("run-of-these-tests")).unwrap().count(), 0);
    }
}
