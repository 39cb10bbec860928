//! Streams of bytes between host and processes.
//!
//! The host dials, writes `STREAM <id>\n`, and from then on the connection is raw. A process claims a stream by its id.
//! Whichever comes first waits for the other, for as long as it takes: a machine may be so busy that no time is long
//! enough, and a stream that is given up is output that is lost. What waits is bounded in number instead: beyond
//! [`MAX_WAITING`] the connection that has waited longest makes room, beyond [`MAX_UNNAMED`] a new one is refused.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};

/// Connections that nobody has claimed. Three for each of as many processes as may be on their way at once.
const MAX_WAITING: usize = 256;
/// Connections whose first line is not complete.
const MAX_UNNAMED: usize = 256;
/// How long the first line may be.
const MAX_LINE: usize = 256;

/// A connection to the host.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection whose first line has been read.
pub type Stream = Box<dyn Connection>;

enum Entry {
    /// A connection waits for a claim. The lower the number, the longer it has waited.
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
#[derive(Clone)]
pub struct Streams {
    table: Arc<Mutex<Table>>,
    unnamed: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { table: Arc::default(), unnamed: Arc::new(Semaphore::new(MAX_UNNAMED)) }
    }
}

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
        let Ok(unnamed) = self.unnamed.try_acquire() else {
            tracing::warn!("too many connections to the stream port have named no stream");
            return;
        };
        let line = read_line(&mut connection).await;
        drop(unnamed);
        match line {
            Some(id) => self.connect(id, Box::new(connection)),
            None => tracing::debug!("a connection to the stream port named no stream"),
        }
    }

    /// Gives a connection to its claim, or keeps it until there is one.
    fn connect(&self, id: String, stream: Stream) {
        let mut table = self.table();
        match table.entries.remove(&id) {
            Some(Entry::Claimed(claim)) => {
                // A claim that is being dropped takes the connection with it.
                let _ = claim.send(stream);
                return;
            }
            Some(Entry::Connected(..)) => {
                tracing::warn!(stream = id, "a second connection took the place of an unclaimed one");
                table.waiting -= 1;
            }
            None => {}
        }
        if table.waiting >= MAX_WAITING {
            table.make_room();
        }
        table.waiting += 1;
        table.count += 1;
        let number = table.count;
        table.entries.insert(id, Entry::Connected(stream, number));
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the connection that has waited longest.
    fn make_room(&mut self) {
        let waiting = self.entries.iter().filter_map(|(id, entry)| match entry {
            Entry::Connected(_, number) => Some((*number, id)),
            Entry::Claimed(_) => None,
        });
        let Some(id) = waiting.min().map(|(_, id)| id.clone()) else { return };
        tracing::warn!(stream = id, "a connection that no process claimed made room for another");
        self.entries.remove(&id);
        self.waiting -= 1;
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
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::time::sleep;

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
    async fn a_connection_before_the_claim_waits_for_it_as_long_as_it_takes() {
        let streams = Streams::default();
        let (mut host, guest) = duplex(64);
        let accepting = tokio::spawn({
            let streams = streams.clone();
            async move { streams.accept(guest).await }
        });
        for part in [&b"STREAM "[..], b"in\nby", b"tes"] {
            sleep(Duration::from_secs(600)).await;
            host.write_all(part).await.unwrap();
        }
        drop(host);
        accepting.await.unwrap();
        assert_eq!(read_all(streams.claim("in").unwrap()).await, "bytes");
    }

    #[tokio::test]
    async fn an_id_is_claimed_once_at_a_time() {
        let streams = Streams::default();
        let claim = streams.claim("one").unwrap();
        assert!(streams.claim("one").is_err());
        drop(claim);
        assert!(streams.claim("one").is_ok());
    }

    #[tokio::test]
    async fn of_too_many_waiting_connections_the_oldest_goes() {
        let streams = Streams::default();
        let mut hosts = Vec::new();
        for number in 0..MAX_WAITING + 1 {
            let (mut host, guest) = duplex(64);
            host.write_all(format!("STREAM {number}\n").as_bytes()).await.unwrap();
            streams.accept(guest).await;
            hosts.push(host);
        }
        assert_eq!(hosts[0].read(&mut [0; 1]).await.unwrap(), 0, "closed");
        drop(hosts.split_off(1));
        assert_eq!(read_all(streams.claim("1").unwrap()).await, "");
        assert_eq!(streams.table().waiting, MAX_WAITING - 1);
    }

    #[tokio::test]
    async fn connections_that_name_no_stream_are_bounded() {
        let streams = Streams::default();
        let mut halves = tokio::task::JoinSet::new();
        let mut hosts = Vec::new();
        for _ in 0..MAX_UNNAMED {
            let (host, guest) = duplex(64);
            let streams = streams.clone();
            halves.spawn(async move { streams.accept(guest).await });
            hosts.push(host);
        }
        while streams.unnamed.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (mut late, guest) = duplex(64);
        streams.accept(guest).await;
        assert_eq!(late.read(&mut [0; 1]).await.unwrap(), 0, "closed");
        hosts.clear();
        halves.join_all().await;
        assert_eq!(streams.unnamed.available_permits(), MAX_UNNAMED);
    }

    #[tokio::test]
    async fn a_line_without_end_or_sense_closes_the_connection() {
        for bytes in [&b"STREAM half"[..], &[b'x'; 300], b"GET / HTTP/1.1\n", b"STREAM \n"] {
            let streams = Streams::default();
            let (mut host, guest) = duplex(512);
            host.write_all(bytes).await.unwrap();
            host.shutdown().await.unwrap();
            streams.accept(guest).await;
            assert_eq!(host.read(&mut [0; 1]).await.unwrap(), 0);
        }
    }
}
