//! Streams of bytes between host and processes.
//!
//! The host dials, writes `STREAM <id>\n`, and from then on the connection is raw. A process claims a stream by its id.
//! Whichever comes first waits for the other: claims for as long as they like, connections for [`MAX_AGE`] and up to
//! [`MAX_WAITING`] of them, after which they are closed.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// Connections that nobody has claimed.
const MAX_WAITING: usize = 64;
/// How long such a connection is kept.
const MAX_AGE: Duration = Duration::from_secs(10);
/// How long the first line may take, and how long it may be.
const LINE_TIME: Duration = Duration::from_secs(5);
const MAX_LINE: usize = 256;

/// A connection to the host.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection whose first line has been read.
pub type Stream = Box<dyn Connection>;

enum Entry {
    /// A connection waits for a claim. The number tells it from a later one of the same id.
    Connected(Stream, u64),
    /// A claim waits for a connection.
    Claimed(oneshot::Sender<Stream>),
}

#[derive(Default)]
struct Table {
    entries: HashMap<String, Entry>,
    waiting: usize,
    count: u64,
}

/// All streams of the sandbox.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Table>>);

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Streams")
    }
}

/// The right to a stream. Dropping it gives the id free.
pub struct Claim {
    id: String,
    streams: Streams,
    stream: Option<oneshot::Receiver<Stream>>,
}

impl Streams {
    /// Claims a stream for one process. An id can be claimed once at a time.
    pub fn claim(&self, id: &str) -> io::Result<Claim> {
        let mut table = self.table();
        let (sender, receiver) = oneshot::channel();
        match table.entries.remove(id) {
            None => {
                table.entries.insert(id.to_owned(), Entry::Claimed(sender));
            }
            Some(Entry::Connected(stream, _)) => {
                table.waiting -= 1;
                // The receiver is right here.
                let _ = sender.send(stream);
            }
            Some(claimed @ Entry::Claimed(_)) => {
                table.entries.insert(id.to_owned(), claimed);
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("the stream {id:?} belongs to another process"),
                ));
            }
        }
        drop(table);
        Ok(Claim { id: id.to_owned(), streams: self.clone(), stream: Some(receiver) })
    }

    /// Takes a new connection, from its first line on, to the process that claims it. Whatever is wrong with it ends this
    /// connection only.
    pub async fn accept(&self, mut connection: impl Connection + 'static) {
        let line = timeout(LINE_TIME, read_line(&mut connection)).await;
        let Some(id) = line.ok().flatten() else {
            tracing::debug!("a connection to the stream port named no stream");
            return;
        };
        if let Some(number) = self.connect(&id, Box::new(connection)) {
            sleep(MAX_AGE).await;
            self.expire(&id, number);
        }
    }

    /// Gives a connection to its claim, or keeps it; then the answer is its number.
    fn connect(&self, id: &str, stream: Stream) -> Option<u64> {
        let mut table = self.table();
        match table.entries.remove(id) {
            Some(Entry::Claimed(claim)) => {
                // A claim that is being dropped takes the connection with it.
                let _ = claim.send(stream);
                return None;
            }
            Some(Entry::Connected(..)) => {
                tracing::warn!(stream = id, "a second connection took the place of an unclaimed one");
                table.waiting -= 1;
            }
            None => {}
        }
        if table.waiting >= MAX_WAITING {
            tracing::warn!(stream = id, "too many connections wait for a process");
            return None;
        }
        table.waiting += 1;
        table.count += 1;
        let number = table.count;
        table.entries.insert(id.to_owned(), Entry::Connected(stream, number));
        Some(number)
    }

    fn expire(&self, id: &str, number: u64) {
        let mut table = self.table();
        if matches!(table.entries.get(id), Some(Entry::Connected(_, known)) if *known == number) {
            tracing::warn!(stream = id, "no process claimed a connection");
            table.entries.remove(id);
            table.waiting -= 1;
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Waits for the connection; `None` if it can no longer come.
    pub async fn stream(mut self) -> Option<Stream> {
        // Stays in `self` while it waits, so that a claim that is dropped meanwhile gives its id free.
        let stream = self.stream.as_mut()?.await.ok();
        self.stream = None;
        stream
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A claim that has its connection is no longer in the table.
        drop(self.stream.take());
        let mut table = self.streams.table();
        if matches!(table.entries.get(&self.id), Some(Entry::Claimed(claim)) if claim.is_closed()) {
            table.entries.remove(&self.id);
        }
    }
}

/// Reads `STREAM <id>\n` and not a byte more: what follows belongs to the process.
async fn read_line(connection: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut line = Vec::with_capacity(MAX_LINE);
    loop {
        match connection.read_u8().await.ok()? {
            b'\n' => break,
            _ if line.len() == MAX_LINE => return None,
            byte => line.push(byte),
        }
    }
    let id = std::str::from_utf8(&line).ok()?.strip_prefix("STREAM ")?;
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn read_all(claim: Claim) -> String {
        let mut text = String::new();
        claim.stream().await.unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_claim_before_the_connection_gets_it() {
        let streams = Streams::default();
        let claim = streams.claim("out").unwrap();
        let (mut host, guest) = duplex(64);
        host.write_all(b"STREAM out\nhello").await.unwrap();
        drop(host);
        streams.accept(guest).await;
        assert_eq!(read_all(claim).await, "hello");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_before_the_claim_waits_for_it() {
        let streams = Streams::default();
        let (mut host, guest) = duplex(64);
        host.write_all(b"STREAM in\nbytes").await.unwrap();
        drop(host);
        let accepting = tokio::spawn({
            let streams = streams.clone();
            async move { streams.accept(guest).await }
        });
        sleep(MAX_AGE / 2).await;
        assert_eq!(read_all(streams.claim("in").unwrap()).await, "bytes");
        accepting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_claims_is_closed() {
        let streams = Streams::default();
        let (mut host, guest) = duplex(64);
        host.write_all(b"STREAM nobody\n").await.unwrap();
        streams.accept(guest).await;
        assert_eq!(host.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(streams.table().waiting, 0);
    }

    #[tokio::test]
    async fn an_id_is_claimed_once_at_a_time() {
        let streams = Streams::default();
        let claim = streams.claim("one").unwrap();
        assert!(streams.claim("one").is_err());
        drop(claim);
        assert!(streams.claim("one").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_connections_are_bounded() {
        let streams = Streams::default();
        let mut hosts = Vec::new();
        for number in 0..MAX_WAITING + 1 {
            let (mut host, guest) = duplex(64);
            host.write_all(format!("STREAM {number}\n").as_bytes()).await.unwrap();
            let streams = streams.clone();
            tokio::spawn(async move { streams.accept(guest).await });
            tokio::task::yield_now().await;
            hosts.push(host);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut last = hosts.pop().unwrap();
        assert_eq!(last.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_without_end_or_sense_closes_the_connection() {
        for bytes in [&b"STREAM half"[..], &[b'x'; 300], b"GET / HTTP/1.1\n", b"STREAM \n"] {
            let streams = Streams::default();
            let (mut host, guest) = duplex(512);
            host.write_all(bytes).await.unwrap();
            streams.accept(guest).await;
            assert_eq!(host.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }
}
