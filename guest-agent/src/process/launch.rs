//! Starting a set-up process and leading it through the handshake. See [`super::handshake`] for the conversation.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use nix::unistd::Pid;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::handshake::{Failure, FromSetup, MAX_FROM_SETUP, ToSetup, encode, frame_length};
use crate::reaper::{ExitWatch, Reaper};
use crate::setup::ARGUMENT;
use crate::setup::job::Job;
use crate::sys::spawn::{PidNamespace, Spawn};

/// Why a process could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No process could be started.
    #[error("failed to start a set-up process")]
    Spawn(#[source] io::Error),
    /// The set-up process says why.
    #[error(transparent)]
    Setup(#[from] Failure),
    /// The socket to it failed, or it said what it should not.
    #[error("failed to hear from the set-up process")]
    Channel(#[source] io::Error),
    /// It ended without a word: killed, most likely for memory.
    #[error(
        "the set-up process ended early, most likely for want of memory; give the container more with --memory"
    )]
    Gone,
}

type Result<T> = std::result::Result<T, LaunchError>;

/// What a set-up process is started with.
pub struct Launch<'a> {
    /// The agent's program.
    pub program: &'a CString,
    /// Descriptors 0 to 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The folder of the container's cgroup; absent for hooks of the agent's side.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The pid namespace to be born in.
    pub pid_namespace: PidNamespace<'a>,
    /// For an exec, the pidfd of the container's init.
    pub container: Option<BorrowedFd<'a>>,
}

/// A set-up process in conversation. It dies if this is dropped before it has become its program, because its next read
/// finds the socket closed.
#[derive(Debug)]
pub struct Launched {
    /// In the guest's pid namespace.
    pub pid: Pid,
    /// Names the process for good.
    pub pidfd: OwnedFd,
    /// Tells its end.
    pub exit: ExitWatch,
    /// The conversation.
    pub channel: Channel,
}

impl Launch<'_> {
    /// Starts the process and gives it its job.
    pub async fn start(&self, reaper: &Reaper, job: Job) -> Result<Launched> {
        let (ours, theirs) = StdUnixStream::pair().map_err(LaunchError::Spawn)?;
        ours.set_nonblocking(true).map_err(LaunchError::Spawn)?;
        let socket = UnixStream::from_std(ours).map_err(LaunchError::Spawn)?;
        let argument = CString::new(ARGUMENT).map_err(|error| LaunchError::Spawn(error.into()))?;
        let mut fds = self.stdio.to_vec();
        fds.push(theirs.as_fd());
        fds.extend(self.container);
        let spawn = Spawn {
            program: self.program.clone(),
            args: vec![c"theca-agent".to_owned(), argument],
            fds,
            cgroup: self.cgroup,
            pid_namespace: match &self.pid_namespace {
                PidNamespace::Shared => PidNamespace::Shared,
                PidNamespace::New => PidNamespace::New,
                PidNamespace::Join(fd) => PidNamespace::Join(*fd),
            },
        };
        let (spawned, exit) = reaper.spawn(&spawn).map_err(LaunchError::Spawn)?;
        drop(spawn);
        drop(theirs);
        let mut channel = Channel(socket);
        channel.send(&ToSetup::Job(job)).await?;
        Ok(Launched { pid: spawned.pid, pidfd: spawned.pidfd, exit, channel })
    }
}

/// The agent's end of the conversation.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// Waits until the namespaces are there.
    pub async fn namespaces_ready(&mut self) -> Result<()> {
        match self.receive().await? {
            Some((FromSetup::NamespacesReady, _)) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until only the program is left to be executed; the agent's end of the terminal comes along.
    pub async fn ready(&mut self) -> Result<Option<OwnedFd>> {
        match self.receive().await? {
            Some((FromSetup::Ready, fd)) => Ok(fd),
            other => Err(unexpected(other)),
        }
    }

    /// Lets it go on.
    pub async fn proceed(&mut self) -> Result<()> {
        self.send(&ToSetup::Proceed).await
    }

    /// Waits until it has become its program, or has ended its job.
    pub async fn finished(&mut self) -> Result<()> {
        match self.receive().await? {
            None => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn send(&mut self, message: &ToSetup) -> Result<()> {
        let frame = encode(message).map_err(LaunchError::Channel)?;
        match self.0.write_all(&frame).await {
            // What it said before it ended is still to be read, and tells more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(LaunchError::Channel),
        }
    }

    async fn receive(&mut self) -> Result<Option<(FromSetup, Option<OwnedFd>)>> {
        let mut head = [0; 4];
        let Some(fd) = self.read(&mut head).await? else { return Ok(None) };
        let length = frame_length(head, MAX_FROM_SETUP).map_err(LaunchError::Channel)?;
        let mut body = vec![0; length];
        if self.read(&mut body).await?.is_none() {
            return Err(LaunchError::Gone);
        }
        let message = serde_json::from_slice(&body).map_err(|error| LaunchError::Channel(error.into()))?;
        Ok(Some((message, fd)))
    }

    /// Fills the buffer and takes the descriptor that came along; `None` at the end of the stream.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<Option<OwnedFd>>> {
        let mut filled = 0;
        let mut attached = None;
        while filled < buffer.len() {
            let read = self.0.async_io(Interest::READABLE, || {
                crate::sys::fd::receive(self.0.as_fd(), &mut buffer[filled..])
            });
            match read.await {
                Ok((0, _)) if filled == 0 => return Ok(None),
                Ok((0, _)) => return Err(LaunchError::Gone),
                Ok((length, fd)) => {
                    filled += length;
                    attached = attached.or(fd);
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(LaunchError::Channel(error)),
            }
        }
        Ok(Some(attached))
    }
}

fn unexpected(message: Option<(FromSetup, Option<OwnedFd>)>) -> LaunchError {
    match message {
        None => LaunchError::Gone,
        Some((FromSetup::Failed(failure), _)) => LaunchError::Setup(failure),
        Some(_) => LaunchError::Channel(io::ErrorKind::InvalidData.into()),
    }
}
