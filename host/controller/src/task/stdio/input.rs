//! Input: what clients write to FIFOs, one after the other as it comes, to the process.

use std::fs::File;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::remote::Remotes;
use super::{CHUNK, StdioError, Stream, Target, fifo};

/// Chunks that may wait for the guest; beyond it clients wait.
const WAITING: usize = 2;

/// Where a process's input comes from, open.
pub enum Source {
    /// A FIFO.
    Fifo(fifo::Source),
    /// Clients that attach to a stream; they send and the process receives.
    Remote(mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>),
}

impl Source {
    /// Opens `target`.
    pub fn open(target: &Target, remotes: &Remotes) -> Result<Self, StdioError> {
        match target {
            Target::Fifo(path) => fifo::Source::open(path).map(Self::Fifo),
            Target::Stream { name, .. } => {
                let (chunks, inbox) = mpsc::channel(WAITING);
                remotes.claim_input(name, &chunks)?;
                Ok(Self::Remote(chunks, inbox))
            }
            Target::File(path) => Err(StdioError::Scheme(format!("file://{}", path.display()))),
        }
    }
}

/// A process's input. Dropping it cuts the input off.
#[derive(Debug)]
pub struct Input {
    /// While they are here the input does not end by itself.
    held: Option<(Option<File>, mpsc::Sender<Vec<u8>>)>,
    pumps: JoinSet<()>,
}

impl Input {
    /// Begins to copy from `source` to `stream`.
    pub fn begin(source: Source, stream: Stream) -> Self {
        let mut pumps = JoinSet::new();
        let (kept_open, chunks, inbox) = match source {
            Source::Remote(chunks, inbox) => (None, chunks, inbox),
            Source::Fifo(fifo) => {
                let (chunks, inbox) = mpsc::channel(WAITING);
                pumps.spawn(read(fifo.reader, chunks.clone()));
                (Some(fifo.kept_open), chunks, inbox)
            }
        };
        pumps.spawn(write(stream, inbox));
        Self { held: Some((kept_open, chunks)), pumps }
    }

    /// Another client writes too. Nothing happens once the input was closed.
    pub fn attach(&mut self, reader: pipe::Receiver) {
        if let Some((_, chunks)) = &self.held {
            self.pumps.spawn(read(reader, chunks.clone()));
        }
    }

    /// The input ends when the clients have closed theirs.
    pub fn close(&mut self) {
        self.held = None;
    }
}

async fn read(mut fifo: pipe::Receiver, chunks: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; CHUNK];
    // An error ends this client's input like its end does.
    while let Ok(read @ 1..) = fifo.read(&mut buffer).await {
        if chunks.send(buffer[..read].to_vec()).await.is_err() {
            return;
        }
    }
}

async fn write(stream: Stream, mut chunks: mpsc::Receiver<Vec<u8>>) {
    let Some(mut guest) = stream.open_or_warn().await else { return };
    while let Some(chunk) = chunks.recv().await {
        if guest.write_all(&chunk).await.is_err() {
            // The process has closed its input; clients see theirs close in turn.
            return;
        }
    }
    // The guest may have gone meanwhile, and then has no use for it.
    let _ = guest.shutdown().await;
    // Closing at once could drop what the guest has not read yet, so the other side closes first.
    let _ = guest.read(&mut [0; 1]).await;
}
