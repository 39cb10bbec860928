//! Output: what a process writes, to its own FIFO or file, to the log and to those who attached.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::log::{SharedLog, StreamName};
use super::patience::Progressing;
use super::remote::Remotes;
use super::{CHUNK, Readers, StdioError, Stream, Target, fifo};

/// How long an attacher's FIFO may take no byte.
const ATTACHED_STALLED: Duration = Duration::from_secs(10);
/// Attachers that may join at once.
const JOINING: usize = 8;

/// Where a process's own output goes.
pub enum Sink {
    /// Nowhere; the log or attachers may have it.
    None,
    /// To a FIFO, and who reads it.
    Fifo(pipe::Sender, Readers),
    /// To the end of a file.
    File(File),
    /// To clients that attach to a stream.
    Remote(mpsc::Sender<Vec<u8>>),
}

impl Sink {
    /// Opens `target`.
    pub fn open(target: Option<&Target>, readers: Readers, remotes: &Remotes) -> Result<Self, StdioError> {
        match target {
            None => Ok(Self::None),
            Some(Target::Fifo(path)) => {
                let fifo = match readers {
                    Readers::ComeAndGo => fifo::open_output(path),
                    Readers::AreThere => fifo::open_read_output(path),
                };
                fifo.map(|fifo| Self::Fifo(fifo, readers))
            }
            Some(Target::Stream { name, .. }) => Ok(Self::Remote(remotes.claim_output(name)?)),
            Some(Target::File(path)) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
                file.map(Self::File).map_err(|source| StdioError::File { path: path.clone(), source })
            }
        }
    }
}

/// An output's handle.
#[derive(Debug)]
pub struct Output {
    name: StreamName,
    joining: mpsc::Sender<pipe::Sender>,
}

impl Output {
    /// The handle, and the pump to run.
    pub fn new(
        name: StreamName,
        stream: Stream,
        sink: Sink,
        log: Option<SharedLog>,
        end: Progressing,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (joining, joined) = mpsc::channel(JOINING);
        let pump = Pump { name, sink, log, attached: Vec::new(), joined, end };
        (Self { name, joining }, pump.run(stream))
    }

    /// Which output it is.
    pub fn name(&self) -> StreamName {
        self.name
    }

    /// Another reader, from now on. An output that has ended closes it at once.
    pub fn attach(&self, fifo: pipe::Sender) {
        if self.joining.try_send(fifo).is_err() {
            debug!("an attacher came too late or with too many others");
        }
    }
}

struct Pump {
    name: StreamName,
    sink: Sink,
    log: Option<SharedLog>,
    attached: Vec<pipe::Sender>,
    joined: mpsc::Receiver<pipe::Sender>,
    end: Progressing,
}

impl Pump {
    async fn run(mut self, stream: Stream) {
        let Some(mut guest) = stream.open_or_warn().await else { return };
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                biased;
                // Before more output is read, or a process that never pauses would let nobody in.
                Some(fifo) = self.joined.recv() => {
                    self.attached.push(fifo);
                    continue;
                }
                read = guest.read(&mut buffer) => match read {
                    Ok(read @ 1..) => read,
                    _ => break,
                },
                () = self.end.lost_guest() => {
                    debug!(stream = stream.id, "the output of an ended process is still open and is cut off");
                    break;
                }
            };
            let begun = Instant::now();
            self.hand_out(&buffer[..read]).await;
            if !self.end.handed_out(read, begun.elapsed()) {
                debug!(stream = stream.id, "the output of an ended process does not end and is cut off");
                break;
            }
        }
        if let Some(log) = &self.log {
            log.finish(self.name);
        }
    }

    async fn hand_out(&mut self, chunk: &[u8]) {
        if let Some(log) = &self.log {
            log.append(self.name, chunk);
        }
        let written = match &mut self.sink {
            Sink::None => Ok(()),
            Sink::File(file) => file.write_all(chunk),
            Sink::Fifo(fifo, readers) => write_fifo(fifo, *readers, chunk, &mut self.end).await,
            Sink::Remote(client) => send_remote(client, chunk, &mut self.end).await,
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                info!("the output's reader has left");
                self.sink = Sink::None;
            }
            Err(error) => {
                warn!(%error, "the output's reader does not read, and loses the rest");
                self.sink = Sink::None;
            }
        }
        let mut kept = Vec::with_capacity(self.attached.len());
        for mut fifo in self.attached.drain(..) {
            if let Ok(Ok(())) = timeout(ATTACHED_STALLED, fifo.write_all(chunk)).await {
                kept.push(fifo);
            }
        }
        self.attached = kept;
    }
}

/// Writes all of `chunk`, waiting for the reader. That the reader has left is an error only of a FIFO that is open for writing
/// alone.
async fn write_fifo(
    fifo: &mut pipe::Sender,
    readers: Readers,
    mut chunk: &[u8],
    end: &mut Progressing,
) -> io::Result<()> {
    while !chunk.is_empty() {
        tokio::select! {
            biased;
            written = fifo.write(chunk) => chunk = &chunk[written?..],
            () = end.lost_reader(readers) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
    Ok(())
}

/// The same towards clients: they need not be there yet, or may have gone and come again.
async fn send_remote(client: &mpsc::Sender<Vec<u8>>, chunk: &[u8], end: &mut Progressing) -> io::Result<()> {
    tokio::select! {
        biased;
        sent = client.send(chunk.to_vec()) => sent.map_err(|_| io::ErrorKind::BrokenPipe.into()),
        () = end.lost_reader(Readers::ComeAndGo) => Err(io::ErrorKind::TimedOut.into()),
    }
}
