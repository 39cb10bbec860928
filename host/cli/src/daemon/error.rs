//! What goes wrong between this command and thecad, as a person reads it.

use std::io;
use std::path::{Path, PathBuf};

use tonic::{Code, Status};

/// Why thecad did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Nobody listens.
    #[error(
        "thecad does not run: nobody answers at {}; start it (`systemctl start thecad`, or `thecad` as root), or name its socket with --address",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// Somebody listens, but not to us.
    #[error(
        "thecad does not let you connect to {}: run theca as root, or as a member of the group that thecad is set up with (its setting `group`)",
        .0.display()
    )]
    Forbidden(PathBuf),
    /// The socket failed.
    #[error("failed to reach thecad at {}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever listens does not speak HTTP/2.
    #[error("failed to talk to thecad at {}", socket.display())]
    Handshake {
        /// Its socket.
        socket: PathBuf,
        /// What went wrong.
        source: hyper::Error,
    },
    /// It went away.
    #[error(
        "thecad ended while it was asked to {asked}; sandboxes go on without it, so ask again when it is back"
    )]
    Gone {
        /// What it was asked.
        asked: &'static str,
    },
    /// It refused or failed; its own sentence.
    #[error("{message}")]
    Refused {
        /// The status code.
        code: Code,
        /// What thecad says.
        message: String,
    },
}

impl DaemonError {
    /// Of a connection that was not made.
    pub fn connecting(socket: &Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotRunning(socket),
            io::ErrorKind::PermissionDenied => Self::Forbidden(socket),
            _ => Self::Unreachable { socket, source },
        }
    }

    /// Of a call that was made to `asked`.
    pub fn calling(asked: &'static str, status: &Status) -> Self {
        // A status that has a cause is no answer: the connection failed.
        if std::error::Error::source(status).is_some() {
            return Self::Gone { asked };
        }
        let message = match status.message() {
            "" => format!("thecad failed to {asked}: {}", status.code()),
            message => message.to_owned(),
        };
        Self::Refused { code: status.code(), message }
    }

    /// Whether it says that the sandbox is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_does_not_run_is_told_with_its_socket_and_how_to_start_it() {
        let socket = Path::new("/run/theca/thecad.sock");
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused] {
            let text = DaemonError::connecting(socket, kind.into()).to_string();
            assert!(
                text.starts_with("thecad does not run: nobody answers at /run/theca/thecad.sock"),
                "{text}"
            );
            assert!(text.contains("systemctl start thecad"), "{text}");
        }
        let text = DaemonError::connecting(socket, io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(text.contains("root") && text.contains("group"), "{text}");
    }

    #[test]
    fn an_answer_is_told_in_thecads_words() {
        let error = DaemonError::calling("stop the sandbox", &Status::not_found("no sandbox is called web"));
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "no sandbox is called web");
        let error = DaemonError::calling("stop the sandbox", &Status::internal(""));
        assert!(error.to_string().starts_with("thecad failed to stop the sandbox: "), "{error}");
    }
}
