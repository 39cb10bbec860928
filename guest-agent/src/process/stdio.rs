//! A process's standard streams: real pipes or a terminal on its side, streams to the host on the agent's.
//!
//! The process never holds the host's connection itself. Each direction is a task that copies with one buffer: when the
//! host does not read, the pipe fills and the process waits, and nobody else does. A stream to the host ends when the
//! last writer of its pipe is gone, which may be later than the process's own end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::server::streams::{Claim, Streams};
use crate::sys::tty;
use crate::sys::watch as readiness;

/// As much as a pipe holds.
const OUTPUT_BUFFER: usize = 64 << 10;
/// What an idle stdin costs.
const INPUT_BUFFER: usize = 8 << 10;
/// How long stdin must be silent before CloseIO, which travels apart from the data, closes it.
const SILENCE: Duration = Duration::from_millis(50);

/// The ids of the streams a process was given; empty means the null device.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Host to guest.
    pub stdin: String,
    /// Guest to host.
    pub stdout: String,
    /// Guest to host; never with a terminal.
    pub stderr: String,
    /// One terminal for all three.
    pub terminal: bool,
}

/// Streams before their process is there.
pub struct Prepared {
    /// What the process gets as 0, 1 and 2; with a terminal, until it has one.
    ends: [OwnedFd; 3],
    stdin: Option<(Claim, Option<OwnedFd>)>,
    outputs: Vec<(Claim, Option<OwnedFd>)>,
}

/// Streams of a process that is there.
#[derive(Debug)]
pub struct Stdio {
    copies: tokio::sync::Mutex<JoinSet<()>>,
    /// The process has ended: what it wrote is in the pipes, if it is not further.
    ended: watch::Sender<bool>,
    /// Received from by each output that still has something of that.
    unwritten: watch::Sender<()>,
    close_stdin: Arc<Notify>,
    terminal: Option<Arc<AsyncFd<File>>>,
}

impl Prepared {
    /// Makes pipes and claims streams.
    pub fn new(names: &Names, streams: &Streams) -> io::Result<Self> {
        let null = || OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let claim = |id: &str| (!id.is_empty()).then(|| streams.claim(id)).transpose();
        if names.terminal {
            return Ok(Self {
                ends: [null()?, null()?, null()?],
                stdin: claim(&names.stdin)?.map(|claim| (claim, None)),
                outputs: claim(&names.stdout)?.map(|claim| (claim, None)).into_iter().collect(),
            });
        }
        let mut outputs = Vec::new();
        let mut output = |id: &str| -> io::Result<OwnedFd> {
            let Some(claim) = claim(id)? else { return null() };
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            outputs.push((claim, Some(read)));
            Ok(write)
        };
        let (stdout, stderr) = (output(&names.stdout)?, output(&names.stderr)?);
        let (stdin, stdin_end) = match claim(&names.stdin)? {
            None => (None, null()?),
            Some(claim) => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                (Some((claim, Some(write))), read)
            }
        };
        Ok(Self { ends: [stdin_end, stdout, stderr], stdin, outputs })
    }

    /// The process's ends.
    pub fn ends(&self) -> [BorrowedFd<'_>; 3] {
        [self.ends[0].as_fd(), self.ends[1].as_fd(), self.ends[2].as_fd()]
    }

    /// Begins to copy. The process's ends close on the agent's side, so that the process alone holds them.
    pub fn connect(self, terminal: Option<OwnedFd>) -> io::Result<Stdio> {
        let close_stdin = Arc::new(Notify::new());
        let mut copies = JoinSet::new();
        let (ended, unwritten) = (watch::Sender::new(false), watch::Sender::new(()));
        let terminal = terminal.map(|fd| open(fd, Interest::READABLE | Interest::WRITABLE)).transpose()?;
        if let Some((claim, pipe)) = self.stdin {
            let target = match (pipe, &terminal) {
                (Some(pipe), _) => Some(open(pipe, Interest::WRITABLE)?),
                (None, terminal) => terminal.clone(),
            };
            if let Some(target) = target {
                copies.spawn(copy_input(claim, target, Arc::clone(&close_stdin)));
            }
        }
        for (claim, pipe) in self.outputs {
            let source = match (pipe, &terminal) {
                (Some(pipe), _) => Some(open(pipe, Interest::READABLE)?),
                (None, terminal) => terminal.clone(),
            };
            if let Some(source) = source {
                copies.spawn(copy_output(source, claim, ended.subscribe(), unwritten.subscribe()));
            }
        }
        Ok(Stdio { copies: copies.into(), ended, unwritten, close_stdin, terminal })
    }
}

impl Stdio {
    /// Ends stdin once what was sent has arrived. Does nothing if it has ended.
    pub fn close_stdin(&self) {
        self.close_stdin.notify_one();
    }

    /// Resizes the terminal; without one there is nothing to do.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => tty::resize(terminal.get_ref().as_fd(), columns, rows),
            None => Ok(()),
        }
    }

    /// The process has ended: waits until all that it wrote was taken by the connection to the host. The streams are still open
    /// if others can write to them.
    pub fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.send_replace(true);
        let unwritten = self.unwritten.clone();
        async move { unwritten.closed().await }
    }

    /// Waits until all output is with the host, but not for ever, and then lets go of the streams.
    pub async fn finish(&self, patience: Duration) {
        let mut copies = self.copies.lock().await;
        self.close_stdin();
        let _ = tokio::time::timeout(patience, async { while copies.join_next().await.is_some() {} }).await;
        copies.shutdown().await;
    }
}

fn open(fd: OwnedFd, interest: Interest) -> io::Result<Arc<AsyncFd<File>>> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    readiness::watch(File::from(fd), interest).map(Arc::new)
}

/// Guest to host. When the host has hung up, the pipe closes and the process learns of it as from any closed pipe. `unwritten` is
/// dropped when the pipe is found empty after the process's end.
async fn copy_output(
    source: Arc<AsyncFd<File>>,
    claim: Claim,
    mut ended: watch::Receiver<bool>,
    unwritten: watch::Receiver<()>,
) {
    let Some(mut stream) = claim.stream().await else { return };
    let mut unwritten = Some(unwritten);
    loop {
        let mut ready = tokio::select! {
            biased;
            // Nobody tells that a pipe is empty: it is asked, until it says so.
            Ok(_) = ended.wait_for(|ended| *ended), if unwritten.is_some() => None,
            ready = source.readable() => match ready {
                Ok(ready) => Some(ready),
                Err(_) => break,
            },
        };
        // Only now, so that a silent process costs no buffer.
        let mut buffer = vec![0; OUTPUT_BUFFER];
        let read = match &mut ready {
            Some(ready) => match ready.try_io(|source| source.get_ref().read(&mut buffer)) {
                Ok(read) => read,
                Err(_would_block) => continue,
            },
            None => source.get_ref().read(&mut buffer),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => unwritten = None,
            // A terminal whose last user is gone fails with EIO.
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = stream.shutdown().await;
}

/// Host to guest. The pipe closes at the end of the stream; a terminal has no such end.
async fn copy_input(claim: Claim, target: Arc<AsyncFd<File>>, close: Arc<Notify>) {
    let Some(mut stream) = claim.stream().await else { return };
    let mut buffer = vec![0; INPUT_BUFFER];
    let mut closing = false;
    loop {
        let read = if closing {
            tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            tokio::select! {
                read = stream.read(&mut buffer) => read,
                () = close.notified() => {
                    closing = true;
                    continue;
                }
            }
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if write_all(&target, &buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn write_all(target: &AsyncFd<File>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.writable().await?.try_io(|target| (&mut target.get_ref()).write(bytes)) {
            Ok(written) => bytes = &bytes[written?..],
            Err(_would_block) => {}
        }
    }
    Ok(())
}
