//! A process's input and output: streams of the guest on one side, FIFOs, files and the log on the other.
//!
//! ```text
//!   guest ── stdout stream ──▶ output pump ─▶ FIFO of the caller   (waits for its reader; see [`Readers`], [`patience`])
//!                                        ├──▶ log                  (never waits)
//!                                        └──▶ FIFOs of attachers   (waits a while, then drops them)
//!   FIFO of the caller ─┐
//!   FIFOs of attachers ─┴─▶ input pump ── stdin stream ──▶ guest
//! ```
//!
//! Where a FIFO of the caller is, a stream that clients reach by name can be too ([`remote`]). FIFOs are opened before the
//! guest hears of the process, so that a wrong path is an error of the request. The exit of a process is told only after
//! [`Drain::finish`]: whoever waits for it finds all output written.

mod fifo;
mod input;
pub mod log;
mod output;
mod patience;
pub mod remote;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use self::input::{Input, Source};
use self::log::{SharedLog, StreamName};
use self::output::{Output, Sink};
use self::patience::{PATIENCE, Patience, Progress, Progressing};
use self::remote::{RemoteError, Remotes};
use super::AttachPaths;
use super::state::TaskRefusal;
use crate::agent::{STREAM_PORT, StreamIds};
use crate::error::{Error, Result};
use crate::vsock::{DialError, Vsock};

/// Bytes copied at once.
const CHUNK: usize = 16 * 1024;

/// Why a stream's host side cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The FIFO could not be opened.
    #[error("failed to open the FIFO {}", path.display())]
    Fifo {
        /// The FIFO.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The output file could not be opened.
    #[error("failed to open the output file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log could not be opened.
    #[error("failed to open the log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream cannot be had.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A kind of output that is not supported.
    #[error(
        "{0:?} is not supported for input or output: use the path of a FIFO, file:///path for output, or the keeper's address with ?streaming_id=NAME"
    )]
    Scheme(String),
}

/// Where a stream goes or comes from on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A FIFO.
    Fifo(PathBuf),
    /// A file to append to; output only.
    File(PathBuf),
    /// A stream of the keeper's, which a client attaches to by its name.
    Stream {
        /// That.
        name: String,
        /// As it was asked for.
        uri: String,
    },
}

/// What comes before the name of a stream.
const STREAM_NAME: &str = "?streaming_id=";

impl Target {
    /// As containerd writes it: a path, `file://` and a path, an address with the name of a stream, or nothing.
    pub fn parse(text: &str) -> std::result::Result<Option<Self>, StdioError> {
        if let Some((_, name)) = text.split_once(STREAM_NAME).filter(|(address, _)| address.contains("://")) {
            return Ok(Some(Self::Stream { name: name.into(), uri: text.into() }));
        }
        match text.split_once("://") {
            _ if text.is_empty() => Ok(None),
            Some(("file", path)) if path.starts_with('/') => Ok(Some(Self::File(path.into()))),
            None if text.starts_with('/') => Ok(Some(Self::Fifo(text.into()))),
            _ => Err(StdioError::Scheme(text.to_owned())),
        }
    }

    /// As containerd writes it.
    pub fn text(&self) -> String {
        match self {
            Self::Fifo(path) => path.display().to_string(),
            Self::File(path) => format!("file://{}", path.display()),
            Self::Stream { uri, .. } => uri.clone(),
        }
    }
}

/// Who reads the FIFOs of a process's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readers {
    /// They come and go, as containerd does when it restarts: output waits for one.
    #[default]
    ComeAndGo,
    /// They are there already. One that has left stays away, and output no longer goes there.
    AreThere,
}

/// Input and output that a process is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoRequest {
    /// A terminal of its own: both outputs in one.
    pub terminal: bool,
    /// Where input comes from.
    pub stdin: Option<Target>,
    /// Where output goes.
    pub stdout: Option<Target>,
    /// Where errors go; unused with a terminal.
    pub stderr: Option<Target>,
    /// Who reads them, where they are FIFOs.
    pub readers: Readers,
}

/// Host sides, open; the guest knows nothing of them yet.
pub struct Opened {
    stdin: Option<Source>,
    outputs: Vec<(StreamName, Sink, Option<SharedLog>)>,
}

impl Opened {
    /// Opens what `request` names. With a log, outputs are wanted even if nobody reads them.
    pub fn open(request: &IoRequest, log: Option<SharedLog>, remotes: &Remotes) -> Result<Self> {
        let stdin = request.stdin.as_ref().map(|target| Source::open(target, remotes)).transpose()?;
        let wanted = [(StreamName::Stdout, &request.stdout), (StreamName::Stderr, &request.stderr)];
        let mut outputs = Vec::with_capacity(2);
        for (name, target) in wanted {
            let merged = request.terminal && name == StreamName::Stderr;
            if !merged && (target.is_some() || log.is_some()) {
                outputs.push((name, Sink::open(target.as_ref(), request.readers, remotes)?, log.clone()));
            }
        }
        Ok(Self { stdin, outputs })
    }

    /// Dials a stream of the guest for each. The dials go on in the background: the guest claims a stream when it hears of
    /// the process, before or after.
    pub fn connect(self, guest: &Vsock) -> (Stdio, Drain) {
        self.connect_with(guest, PATIENCE)
    }

    fn connect_with(self, guest: &Vsock, patience: Patience) -> (Stdio, Drain) {
        let number = next_number();
        let (progress, seen) = watch::channel(Progress::default());
        let mut pumps = JoinSet::new();
        let mut stdio = Stdio { progress: progress.clone(), ..Stdio::default() };
        stdio.input = self.stdin.map(|source| {
            let stream = Stream { guest: guest.clone(), id: format!("{number}-in") };
            stdio.ids.stdin = Some(stream.id.clone());
            Input::begin(source, stream)
        });
        for (name, sink, log) in self.outputs {
            let (suffix, id) = match name {
                StreamName::Stdout => ("out", &mut stdio.ids.stdout),
                StreamName::Stderr => ("err", &mut stdio.ids.stderr),
            };
            let stream = Stream { guest: guest.clone(), id: format!("{number}-{suffix}") };
            *id = Some(stream.id.clone());
            let end = Progressing::new(patience, seen.clone());
            let (output, pump) = Output::new(name, stream, sink, log, end);
            pumps.spawn(pump);
            stdio.outputs.push(output);
        }
        (stdio, Drain { progress, pumps })
    }
}

/// Stream ids are unique for the life of the keeper, and so of the VM.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A stream of the guest, by its id.
struct Stream {
    guest: Vsock,
    id: String,
}

impl Stream {
    async fn open(&self) -> std::result::Result<UnixStream, DialError> {
        let mut stream = self.guest.dial(STREAM_PORT).await?;
        let named = stream.write_all(format!("STREAM {}\n", self.id).as_bytes()).await;
        named.map_err(|source| DialError::Io { port: STREAM_PORT, source })?;
        Ok(stream)
    }

    /// The stream, or nothing and a word in the log: a process whose streams fail still has an exit.
    async fn open_or_warn(&self) -> Option<UnixStream> {
        match self.open().await {
            Ok(stream) => Some(stream),
            Err(error) => {
                warn!(
                    stream = self.id,
                    error = &error as &dyn std::error::Error,
                    "a stream of the guest is lost"
                );
                None
            }
        }
    }
}

/// The host's side of a process's streams. Dropping it ends the input.
#[derive(Debug, Default)]
pub struct Stdio {
    ids: StreamIds,
    input: Option<Input>,
    outputs: Vec<Output>,
    progress: watch::Sender<Progress>,
}

impl Stdio {
    /// The streams' names for the agent.
    pub fn ids(&self) -> StreamIds {
        self.ids.clone()
    }

    /// The keeper no longer keeps the input open: it ends when the others who write to it have closed it. Idempotent.
    pub fn close_input(&mut self) {
        if let Some(input) = &mut self.input {
            input.close();
        }
    }

    /// The process was killed, and its end is not to wait for a reader that does not read.
    pub fn unwanted(&self) {
        self.progress.send_modify(|progress| progress.unwanted = true);
    }

    /// Joins further readers and a further writer.
    pub fn attach(&mut self, paths: &AttachPaths) -> Result<()> {
        let source = match (&paths.stdin, &self.input) {
            (None, _) => None,
            (Some(_), None) => return Err(Error::Task(TaskRefusal::NoInput)),
            (Some(path), Some(_)) => Some(fifo::open_reader(path)?),
        };
        let mut readers = Vec::with_capacity(2);
        for (name, path) in [(StreamName::Stdout, &paths.stdout), (StreamName::Stderr, &paths.stderr)] {
            if let Some(path) = path {
                readers.push((name, fifo::open_read_output(path)?));
            }
        }
        for (name, fifo) in readers {
            if let Some(output) = self.outputs.iter().find(|output| output.name() == name) {
                output.attach(fifo);
            }
        }
        if let (Some(source), Some(input)) = (source, &mut self.input) {
            input.attach(source);
        }
        Ok(())
    }
}

/// The outputs' pumps, to be waited for once the process has ended. Dropping it stops them at once.
#[derive(Debug)]
pub struct Drain {
    progress: watch::Sender<Progress>,
    pumps: JoinSet<()>,
}

impl Drain {
    /// The process has ended: waits until its output is written. `written` answers when the guest says that it has sent all. What
    /// lingers on, like a child that inherited the output, is cut off after a while, and so are readers as [`patience`] has it.
    pub async fn finish(mut self, written: impl Future<Output = ()>) {
        self.progress.send_modify(|progress| progress.ended = true);
        tokio::pin!(written);
        let mut told = false;
        loop {
            tokio::select! {
                pump = self.pumps.join_next() => if pump.is_none() { return },
                () = &mut written, if !told => {
                    told = true;
                    self.progress.send_modify(|progress| progress.written = true);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "stdio_test.rs"]
mod tests;
