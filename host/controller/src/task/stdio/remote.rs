//! Input and output of processes that clients reach by name instead of by FIFO.
//!
//! ```text
//!   client ── attach("web-stdin") ──▶ ┌───────┐ ◀── claimed by Create: stdin is "web-stdin" ── process
//!                                     │ a slot │
//!   client ── attach again ─────────▶ └───────┘
//! ```
//!
//! Either side may come first. A client that is lost can attach again, and takes the place of the one before it: what it
//! had not been given is kept, as a FIFO keeps what nobody has read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

use super::{IoRequest, Target};

/// Slots of a sandbox.
const MOST: usize = 1024;
/// Longest name.
const LONGEST_NAME: usize = 256;
/// Chunks of output that wait for a client; beyond it the process waits.
const WAITING: usize = 2;

/// Why a stream cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// A living process has it.
    #[error("the stream {0} belongs to another process")]
    Taken(String),
    /// The process it belonged to has ended or closed it.
    #[error("the stream {0} has ended")]
    Ended(String),
    /// Another client attached to it.
    #[error("another client has attached to the stream {0}")]
    Superseded(String),
    /// There are too many.
    #[error("the sandbox has {MOST} streams already")]
    TooMany,
    /// A name that is none.
    #[error("{0:?} is no name of a stream: use 1 to {LONGEST_NAME} letters, digits, '_', '.' and '-'")]
    Name(String),
}

/// The streams of a sandbox; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Remotes(Arc<Mutex<BTreeMap<String, Slot>>>);

#[derive(Debug, Default)]
struct Slot {
    end: Option<End>,
    waiting: Option<oneshot::Sender<Attached>>,
    /// Counts clients: the newest one's turn it is.
    turn: watch::Sender<u64>,
}

/// The process's end. It lives as long as the process holds on to its part.
#[derive(Debug)]
enum End {
    Input(mpsc::WeakSender<Vec<u8>>),
    Output(mpsc::WeakSender<Vec<u8>>, Arc<AsyncMutex<Outgoing>>),
}

impl End {
    fn lives(&self) -> bool {
        let (Self::Input(process) | Self::Output(process, _)) = self;
        process.strong_count() > 0
    }
}

/// What a client gets.
#[derive(Debug)]
pub enum Attached {
    /// Takes input; the input ends when all who hold this have let go and the keeper has closed it.
    Input(mpsc::Sender<Vec<u8>>, Turn),
    /// Gives output to whoever holds the lock: the client before lets go when its turn is over.
    Output(Arc<AsyncMutex<Outgoing>>, Turn),
}

/// A client's turn.
#[derive(Debug)]
pub struct Turn(watch::Receiver<u64>);

impl Turn {
    /// Answers when another client has come.
    pub async fn over(&mut self) {
        // An error: nobody can come any more.
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Output on its way to a client.
#[derive(Debug)]
pub struct Outgoing {
    chunks: mpsc::Receiver<Vec<u8>>,
    /// Taken from `chunks`, and not given to a client yet.
    rest: Vec<u8>,
}

impl Outgoing {
    /// At most `limit` bytes, or nothing once the output has ended. Nothing is lost when it is not waited for.
    pub async fn next(&mut self, limit: usize) -> Option<Vec<u8>> {
        if self.rest.is_empty() {
            self.rest = self.chunks.recv().await?;
        }
        let kept = self.rest.split_off(limit.min(self.rest.len()));
        Some(std::mem::replace(&mut self.rest, kept))
    }

    /// Takes back what could not be given to the client.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        bytes.append(&mut self.rest);
        self.rest = bytes;
    }
}

impl Remotes {
    /// The client's side of the stream `name`: answers when a process has it.
    pub async fn attach(&self, name: &str) -> Result<Attached, RemoteError> {
        let waiting = {
            let mut slots = self.slots();
            let slot = reserve(&mut slots, name)?;
            slot.turn.send_modify(|turn| *turn += 1);
            match attached(slot) {
                Some(attached) => return Ok(attached),
                None if slot.end.is_some() => return Err(RemoteError::Ended(name.to_owned())),
                None => {
                    let (found, waiting) = oneshot::channel();
                    slot.waiting = Some(found);
                    waiting
                }
            }
        };
        waiting.await.map_err(|_| RemoteError::Superseded(name.to_owned()))
    }

    /// A process's input is the stream `name`: what clients send goes into `chunks`.
    pub fn claim_input(&self, name: &str, chunks: &mpsc::Sender<Vec<u8>>) -> Result<(), RemoteError> {
        self.claim(name, End::Input(chunks.downgrade()))
    }

    /// A process's output is the stream `name`: what is sent into the answer goes to clients.
    pub fn claim_output(&self, name: &str) -> Result<mpsc::Sender<Vec<u8>>, RemoteError> {
        let (process, chunks) = mpsc::channel(WAITING);
        let outgoing = Arc::new(AsyncMutex::new(Outgoing { chunks, rest: Vec::new() }));
        self.claim(name, End::Output(process.downgrade(), outgoing))?;
        Ok(process)
    }

    /// A process is forgotten, and with it what its streams were. Until then a client that comes late finds what was left,
    /// or the end. One that is being given output gets the rest.
    pub fn release(&self, io: &IoRequest) {
        let mut slots = self.slots();
        for target in [&io.stdin, &io.stdout, &io.stderr].into_iter().flatten() {
            if let Target::Stream { name, .. } = target
                && let Entry::Occupied(slot) = slots.entry(name.clone())
                && slot.get().end.as_ref().is_some_and(|end| !end.lives())
            {
                slot.remove();
            }
        }
    }

    fn claim(&self, name: &str, end: End) -> Result<(), RemoteError> {
        let mut slots = self.slots();
        let slot = reserve(&mut slots, name)?;
        if slot.end.as_ref().is_some_and(End::lives) {
            return Err(RemoteError::Taken(name.to_owned()));
        }
        slot.end = Some(end);
        if let Some(waiting) = slot.waiting.take()
            && let Some(attached) = attached(slot)
        {
            // A client that has gone comes again.
            let _ = waiting.send(attached);
        }
        Ok(())
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot called `name`, made if there is none.
fn reserve<'a>(slots: &'a mut BTreeMap<String, Slot>, name: &str) -> Result<&'a mut Slot, RemoteError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fine) {
        return Err(RemoteError::Name(name.chars().take(LONGEST_NAME).collect()));
    }
    if slots.len() >= MOST && !slots.contains_key(name) {
        // What ended processes have left and nobody has fetched, and what clients that are gone have waited for.
        slots.retain(|_, slot| {
            let wanted = slot.waiting.as_ref().is_some_and(|waiting| !waiting.is_closed());
            wanted || slot.end.as_ref().is_some_and(End::lives)
        });
        if slots.len() >= MOST {
            return Err(RemoteError::TooMany);
        }
    }
    Ok(slots.entry(name.to_owned()).or_default())
}

/// What a client of `slot` gets, if a process has it or has left output in it.
fn attached(slot: &Slot) -> Option<Attached> {
    let turn = Turn(slot.turn.subscribe());
    match slot.end.as_ref()? {
        End::Input(process) => Some(Attached::Input(process.upgrade()?, turn)),
        End::Output(_, outgoing) => Some(Attached::Output(Arc::clone(outgoing), turn)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn output(remotes: &Remotes) -> (Arc<AsyncMutex<Outgoing>>, Turn) {
        match remotes.attach("web-stdout").await {
            Ok(Attached::Output(outgoing, turn)) => (outgoing, turn),
            other => panic!("no output: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_client_that_is_early_gets_the_stream_when_a_process_has_it() {
        let remotes = Remotes::default();
        let early = tokio::spawn({
            let remotes = remotes.clone();
            async move { remotes.attach("web-stdin").await }
        });
        tokio::task::yield_now().await;
        let (process, mut chunks) = mpsc::channel(1);
        remotes.claim_input("web-stdin", &process).unwrap();
        drop(process);
        let Ok(Attached::Input(client, _)) = early.await.unwrap() else { panic!("no input") };
        client.send(b"hello".to_vec()).await.unwrap();
        drop(client);
        assert_eq!(chunks.recv().await.unwrap(), b"hello");
        assert!(chunks.recv().await.is_none(), "the input ends with its last client");
        let error = remotes.attach("web-stdin").await.unwrap_err();
        assert_eq!(error, RemoteError::Ended("web-stdin".into()));
    }

    #[tokio::test]
    async fn what_one_client_was_not_given_the_next_one_is() {
        let remotes = Remotes::default();
        let process = remotes.claim_output("web-stdout").unwrap();
        process.send(b"0123456789".to_vec()).await.unwrap();
        let (outgoing, mut turn) = output(&remotes).await;
        let mut held = outgoing.lock().await;
        assert_eq!(held.next(4).await.unwrap(), b"0123");
        held.give_back(b"23".to_vec());
        drop(held);
        let (outgoing, _turn) = output(&remotes).await;
        turn.over().await;
        drop(process);
        let mut held = outgoing.lock().await;
        assert_eq!(held.next(100).await.unwrap(), b"23456789");
        assert!(held.next(100).await.is_none());
    }

    #[tokio::test]
    async fn a_stream_has_one_process_and_output_outlives_it_until_it_was_fetched() {
        let remotes = Remotes::default();
        let process = remotes.claim_output("web-stdout").unwrap();
        assert_eq!(remotes.claim_output("web-stdout").unwrap_err(), RemoteError::Taken("web-stdout".into()));
        process.send(b"bye".to_vec()).await.unwrap();
        drop(process);
        let (outgoing, _turn) = output(&remotes).await;
        assert_eq!(outgoing.lock().await.next(100).await.unwrap(), b"bye");
        assert!(outgoing.lock().await.next(100).await.is_none());
        let (late, _turn) = output(&remotes).await;
        assert!(late.lock().await.next(100).await.is_none(), "a client that comes late finds the end");
        let stream = Target::Stream { name: "web-stdout".into(), uri: String::new() };
        remotes.release(&IoRequest { stdout: Some(stream), ..IoRequest::default() });
        let early = timeout(Duration::from_millis(20), remotes.attach("web-stdout")).await;
        assert!(early.is_err(), "and once the process is forgotten, waits for another");
    }

    #[tokio::test]
    async fn names_and_number_are_bounded() {
        let remotes = Remotes::default();
        for name in ["", "a/b", "a b", &"x".repeat(257)] {
            assert!(matches!(remotes.claim_output(name), Err(RemoteError::Name(_))), "{name:?}");
        }
        let held: Vec<_> = (0..MOST).map(|n| remotes.claim_output(&n.to_string()).unwrap()).collect();
        assert_eq!(remotes.claim_output("more").unwrap_err(), RemoteError::TooMany);
        drop(held);
        remotes.claim_output("more").unwrap();
    }
}
