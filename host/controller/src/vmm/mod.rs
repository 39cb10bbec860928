//! The VMM process behind a handle: what it is given, what it is asked, how it ended.
//!
//! [`Vmm::spawn`] starts the program with one end of a control socket. A supervisor task owns the other end: it sends
//! requests in order, hands out answers, passes on the guest's dials and, when the process has ended, publishes why.
//! The VMM ends by itself when the socket closes, so a keeper that is killed takes its VM along.

pub mod disk;
pub mod end;
pub mod machine;
mod supervisor;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use theca_vmm_protocol::{Channel, ChannelError, Disk, FdIndex, Reply, Request, Stats};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use disk::{DiskFile, DiskId};
pub use end::VmEnd;
pub use machine::Machine;

use crate::sys::inherit;

/// How long a pause waits for what the guest was asked for before; what takes longer is done when it goes on.
const UNDER_WAY: Duration = Duration::from_secs(5);

/// Why the VMM could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// The program did not start.
    #[error("failed to start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control socket failed.
    #[error("failed to talk to the VMM")]
    Channel(#[from] ChannelError),
    /// It said no; its words.
    #[error("{0}")]
    Refused(String),
    /// It ended before it answered.
    #[error("the VMM ended before it answered")]
    Ended,
}

/// A running VMM; clones name the same one.
#[derive(Clone, Debug)]
pub struct Vmm {
    pid: u32,
    asks: mpsc::UnboundedSender<Ask>,
    halted: watch::Receiver<bool>,
    ended: watch::Receiver<Option<Arc<VmEnd>>>,
    paused: Arc<AtomicBool>,
    /// Shared by what the guest is doing for somebody, for as long as that takes.
    guest: Arc<RwLock<()>>,
}

/// What the supervisor is told.
enum Ask {
    /// Send this and answer with the reply.
    Request(Box<Request>, Vec<OwnedFd>, oneshot::Sender<Result<Reply, VmmError>>),
    /// End the VM: asked first, then killed. With what is wrong with it, if something is.
    Stop(Option<&'static str>),
}

/// A VMM that was just started.
pub struct Spawned {
    /// Its handle.
    pub vmm: Vmm,
    /// The guest's dials to host ports, as they come.
    pub dials: mpsc::Receiver<(u32, UnixStream)>,
    /// The supervisor; it ends with the process.
    pub supervisor: JoinHandle<()>,
}

impl Vmm {
    /// Starts `program`. What it prints goes to `log`; `console` is where its guest's output will be found.
    pub fn spawn(program: &Path, log: Stdio, console: File) -> Result<Spawned, VmmError> {
        let failed = |source| VmmError::Spawn { program: program.to_owned(), source };
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let theirs = theirs.into_socket();
        let number = inherit::pass(&theirs).map_err(failed)?;
        let child = Command::new(program)
            .args(["--control-fd", &number.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        drop(theirs);
        let pid = child.id().ok_or(VmmError::Ended)?;
        let wire = wire::Wire::new(ours).map_err(failed)?;
        let (asks, inbox) = mpsc::unbounded_channel();
        let (publish_halt, halted) = watch::channel(false);
        let (publish, ended) = watch::channel(None);
        let (dialled, dials) = mpsc::channel(4);
        let supervisor =
            supervisor::Supervisor { wire, child, inbox, publish_halt, publish, dialled, console };
        let supervisor = tokio::spawn(supervisor.run());
        let (paused, guest) = Default::default();
        Ok(Spawned { vmm: Self { pid, asks, halted, ended, paused, guest }, dials, supervisor })
    }

    /// The process's id on the host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks for the machine to be built. The request is on its way when this returns; the future is the answer.
    pub fn configure(
        &self,
        machine: machine::Opened,
    ) -> impl Future<Output = Result<(), VmmError>> + Send + use<> {
        let answer = self.ask(Request::Configure(Box::new(machine.config)), machine.fds);
        async move { done(answer.await) }
    }

    /// Asks for the vCPUs to run, likewise at once: it may follow [`Vmm::configure`] without waiting for its answer.
    pub fn start(&self) -> impl Future<Output = Result<(), VmmError>> + Send + use<> {
        let answer = self.ask(Request::Start, Vec::new());
        async move { done(answer.await) }
    }

    /// Gives the empty slot `slot` its disk.
    pub async fn attach(&self, slot: u8, file: &DiskFile, serial: String) -> Result<(), VmmError> {
        let fd = file.try_clone().map_err(ChannelError::Io)?;
        let disk = Disk { file: FdIndex(0), read_only: file.read_only(), serial };
        done(self.ask(Request::AttachDisk { slot, disk }, vec![fd]).await)
    }

    /// Takes the disk of `slot` away, which the guest must have let go of. The request is on its way when this returns.
    pub fn detach(&self, slot: u8) -> impl Future<Output = Result<(), VmmError>> + Send + use<> {
        let answer = self.ask(Request::DetachDisk { slot }, Vec::new());
        async move { done(answer.await) }
    }

    /// To be held while the guest is asked for something that others wait behind: a pause comes after it. None if the guest
    /// stands still, or is about to.
    pub fn busy(&self) -> Option<OwnedRwLockReadGuard<()>> {
        let busy = self.guest.clone().try_read_owned().ok()?;
        (!self.is_paused()).then_some(busy)
    }

    /// Stops every vCPU where it is, once the guest has done what it is [`busy`](Self::busy) with, or does not come to that.
    /// Idempotent.
    pub async fn pause(&self) -> Result<(), VmmError> {
        // Before it is so: whoever asks the guest for something from now on would wait.
        self.paused.store(true, Ordering::Relaxed);
        let _ = timeout(UNDER_WAY, self.guest.write()).await;
        if !self.paused.load(Ordering::Relaxed) {
            return Err(VmmError::Refused("it was resumed meanwhile".into()));
        }
        let paused = done(self.ask(Request::Pause, Vec::new()).await);
        self.paused.store(paused.is_ok(), Ordering::Relaxed);
        paused
    }

    /// Lets them go on. Idempotent.
    pub async fn resume(&self) -> Result<(), VmmError> {
        done(self.ask(Request::Resume, Vec::new()).await)?;
        self.paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the vCPUs stand still: the guest answers nothing then. Not once the VM has ended.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) && self.end().is_none()
    }

    /// What it counts.
    pub async fn stats(&self) -> Result<Stats, VmmError> {
        match self.ask(Request::Stats, Vec::new()).await? {
            Reply::Stats(stats) => Ok(stats),
            Reply::Failed(why) => Err(VmmError::Refused(why)),
            Reply::Done => Err(VmmError::Refused("it counts nothing".into())),
        }
    }

    /// Ends the VM: asks, and kills what does not obey. Returns at once; [`Vmm::ended`] tells when it is over.
    pub fn stop(&self) {
        // A supervisor that is gone has published the end already.
        let _ = self.asks.send(Ask::Stop(None));
    }

    /// The same for a VM that is of no use any more: `fault` is how it ended then, unless it says something else by itself.
    pub fn give_up(&self, fault: &'static str) {
        let _ = self.asks.send(Ask::Stop(Some(fault)));
    }

    /// Waits until the guest runs no more. The process may still be giving back what it had.
    pub async fn halted(&self) {
        let mut halted = self.halted.clone();
        // An error means that the supervisor is gone, and the process with it.
        let _ = halted.wait_for(|halted| *halted).await;
    }

    /// Waits until the process is gone and says how it ended.
    pub async fn ended(&self) -> Arc<VmEnd> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => end.clone(),
            _ => Arc::new(VmEnd::unobserved()),
        }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<Arc<VmEnd>> {
        self.ended.borrow().clone()
    }

    /// Queues the request at once; the future is only the wait for the answer.
    fn ask(
        &self,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> impl Future<Output = Result<Reply, VmmError>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = self.asks.send(Ask::Request(Box::new(request), fds, reply)).is_ok();
        async move {
            match queued {
                true => answer.await.unwrap_or(Err(VmmError::Ended)),
                false => Err(VmmError::Ended),
            }
        }
    }
}

fn done(reply: Result<Reply, VmmError>) -> Result<(), VmmError> {
    match reply? {
        Reply::Failed(why) => Err(VmmError::Refused(why)),
        Reply::Done | Reply::Stats(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "vmm_test.rs"]
mod tests;
