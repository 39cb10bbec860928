//! Dialling the guest: a line `CONNECT <port>` on the VMM's Unix socket, answered by `OK <host port>`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest answer taken: `OK 4294967295` and a line end.
const MAX_ANSWER: usize = 14;
/// How long the guest may take to accept.
const LIMIT: Duration = Duration::from_secs(20);

/// Why the guest could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The VMM's socket failed.
    #[error("failed to dial port {port} of the guest")]
    Io {
        /// The guest's port.
        port: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody listens there, or what came back is no answer.
    #[error("the guest accepts no connection on port {0}")]
    Refused(u32),
    /// No answer came.
    #[error("the guest did not answer on port {0} within {limit} s", limit = LIMIT.as_secs())]
    Silent(u32),
}

/// The guest's ports behind one Unix socket; clones are cheap.
#[derive(Clone, Debug)]
pub struct Vsock(Arc<Path>);

impl Vsock {
    /// The guest behind the VMM's listener at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self(socket.into())
    }

    /// Connects to `port` of the guest.
    pub async fn dial(&self, port: u32) -> Result<UnixStream, DialError> {
        match timeout(LIMIT, self.handshake(port)).await {
            Err(_) => Err(DialError::Silent(port)),
            Ok(Err(source)) => Err(DialError::Io { port, source }),
            Ok(Ok(None)) => Err(DialError::Refused(port)),
            Ok(Ok(Some(stream))) => Ok(stream),
        }
    }

    async fn handshake(&self, port: u32) -> io::Result<Option<UnixStream>> {
        let mut stream = UnixStream::connect(&self.0).await?;
        stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
        // Byte by byte: what follows the line belongs to the connection.
        let mut answer = Vec::with_capacity(MAX_ANSWER);
        while answer.last() != Some(&b'\n') {
            if answer.len() == MAX_ANSWER {
                return Ok(None);
            }
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(answer.starts_with(b"OK ").then_some(stream))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;
    use tokio::net::UnixListener;

    use super::*;

    async fn answered_with(answer: &'static [u8]) -> Result<String, DialError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vsock.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio::io::BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            assert_eq!(line, "CONNECT 1024\n");
            stream.write_all(answer).await.unwrap();
        });
        let mut stream = Vsock::new(&socket).dial(1024).await?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        Ok(rest)
    }

    #[tokio::test]
    async fn bytes_behind_the_answer_belong_to_the_connection() {
        assert_eq!(answered_with(b"OK 1073741824\nhello").await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_closed_or_garbled_answer_is_a_refusal() {
        for answer in [&b""[..], b"OK 1", b"NO\n", b"OK 12345678901234567890\n"] {
            assert!(matches!(answered_with(answer).await, Err(DialError::Refused(1024))), "{answer:?}");
        }
    }
}
