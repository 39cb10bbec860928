//! Dialling the guest: a line `CONNECT <port>` on the VMM's Unix socket, answered by `OK <host port>`.
//!
//! A guest that is given no time by a busy machine looks, for a while, like one that does not listen: the VMM gives such a
//! dial up. So it is made again, until it is taken or [`LIMIT`] has passed. A VMM that is gone ends it at once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Longest answer taken: `OK 4294967295` and a line end.
const MAX_ANSWER: usize = 14;
/// How long the guest may take to accept.
const LIMIT: Duration = Duration::from_secs(120);
/// Before a dial that was given up is made again.
const PAUSE: Duration = Duration::from_millis(100);

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
    /// What came back is no answer.
    #[error("the VMM answered a dial of the guest's port {0} with something else")]
    Garbled(u32),
    /// Nobody takes the connection, again and again.
    #[error("the guest accepted no connection on port {0} within {limit} s", limit = LIMIT.as_secs())]
    Refused(u32),
}

/// What came back for a `CONNECT`.
enum Answer {
    Accepted(UnixStream),
    Closed,
    Garbled,
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
        let accepted = async {
            loop {
                let failed = |source| DialError::Io { port, source };
                let stream = UnixStream::connect(&self.0).await.map_err(failed)?;
                match handshake(stream, port).await.or_else(given_up).map_err(failed)? {
                    Answer::Accepted(stream) => return Ok(stream),
                    Answer::Closed => sleep(PAUSE).await,
                    Answer::Garbled => return Err(DialError::Garbled(port)),
                }
            }
        };
        timeout(LIMIT, accepted).await.unwrap_or(Err(DialError::Refused(port)))
    }
}

async fn handshake(mut stream: UnixStream, port: u32) -> io::Result<Answer> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    // Byte by byte: what follows the line belongs to the connection.
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    while answer.last() != Some(&b'\n') {
        if answer.len() == MAX_ANSWER {
            return Ok(Answer::Garbled);
        }
        answer.push(stream.read_u8().await?);
    }
    Ok(if answer.starts_with(b"OK ") { Answer::Accepted(stream) } else { Answer::Garbled })
}

/// The ways in which a connection that the VMM closes fails; it may not have read the line.
fn given_up(error: io::Error) -> io::Result<Answer> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error.kind() {
        UnexpectedEof | ConnectionReset | BrokenPipe => Ok(Answer::Closed),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;
    use tokio::net::UnixListener;

    use super::*;

    /// Dials a guest that answers each dial with the next of these.
    async fn answered_with(answers: &'static [&'static [u8]]) -> Result<String, DialError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("vsock.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = tokio::io::BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                assert_eq!(line, "CONNECT 1024\n");
                stream.write_all(answer).await.unwrap();
            }
        });
        let mut stream = Vsock::new(&socket).dial(1024).await?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        Ok(rest)
    }

    #[tokio::test]
    async fn bytes_behind_the_answer_belong_to_the_connection() {
        assert_eq!(answered_with(&[b"OK 1073741824\nhello"]).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_dial_that_was_given_up_is_made_again() {
        assert_eq!(answered_with(&[b"", b"OK 1", b"OK 7\nhello"]).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_vmm_that_is_gone_ends_the_dial() {
        assert!(matches!(answered_with(&[b""]).await, Err(DialError::Io { port: 1024, .. })));
    }

    #[tokio::test]
    async fn a_garbled_answer_is_none() {
        const ANSWERS: [&[&[u8]]; 2] = [&[b"NO\n"], &[b"OK 12345678901234567890\n"]];
        for answers in ANSWERS {
            assert!(matches!(answered_with(answers).await, Err(DialError::Garbled(1024))), "{answers:?}");
        }
    }
}
