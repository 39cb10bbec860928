//! Unix sockets that root, and a group where one is configured, may connect to.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, chown};

/// Why a socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else is there.
    #[error("{} is there and no socket: remove it, or configure another path", .0.display())]
    InTheWay(PathBuf),
    /// It failed.
    #[error("failed to {action} {}", path.display())]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listening socket. Its name goes away with the value.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. A socket that is there already is what an earlier thecad has left, for the lock is ours.
    pub fn bind(path: &Path, group: Option<Gid>) -> Result<Self, SocketError> {
        let failed =
            |action| move |source: io::Error| SocketError::Failed { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o711).create(folder).map_err(failed("make the folder of"))?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                fs::remove_file(path).map_err(failed("remove what an earlier thecad has left of"))?;
            }
            Ok(_) => return Err(SocketError::InTheWay(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at")(error)),
        }
        // Nobody may connect before the group is set. No other thread runs yet that would make a file.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(before);
        let socket = Self { listener: bound.map_err(failed("listen on"))?, path: path.to_owned() };
        if group.is_some() {
            chown(path, None, group).map_err(|error| failed("set the group of")(error.into()))?;
            fs::set_permissions(path, Permissions::from_mode(0o660))
                .map_err(failed("set the permissions of"))?;
        }
        socket.listener.set_nonblocking(true).map_err(failed("set up"))?;
        Ok(socket)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the same socket, for the runtime. Needs one.
    pub fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The next thecad removes what stays.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_root_or_the_group_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/thecad.sock");
        let socket = Socket::bind(&path, None).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(socket);
        assert!(!path.exists());
        let _socket = Socket::bind(&path, Some(Gid::effective())).unwrap();
        assert_eq!(mode(&path), 0o660);
    }

    #[test]
    fn what_an_earlier_thecad_has_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thecad.sock");
        drop(UnixListener::bind(&path).unwrap());
        drop(Socket::bind(&path, None).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path, None), Err(SocketError::InTheWay(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
