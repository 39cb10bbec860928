//! A task: a container in the sandbox's VM, its init and the processes added to it.
//!
//! [`announce`] makes its handle, as soon as anybody may name it. [`Announced::begin`] makes an actor that first creates the
//! container and then does what is asked of it, one request after the other; requests that come early wait. It ends with
//! Delete, or when creating failed.

mod actor;
pub mod create;
pub mod process;
pub mod room;
pub mod rootfs;
mod scratch;
pub mod state;
pub mod stdio;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::CgroupFiles;
use crate::error::{Error, Result};
use crate::id::ExecId;
use crate::sandbox::Reply;
use create::Creation;
use state::Phase;
use stdio::IoRequest;

/// Requests that may wait for a task.
const QUEUE: usize = 128;
/// How long the init of a task that is deleted before its start may take to die.
pub const DEATH: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its own status, or 128+N after signal N.
    pub status: u32,
    /// When the keeper learnt of it, on the host's clock.
    pub at: SystemTime,
}

/// A process to add.
#[derive(Debug)]
pub struct AddProcess {
    /// Its name.
    pub exec: ExecId,
    /// Its input and output.
    pub io: IoRequest,
    /// An OCI `Process` as JSON.
    pub spec: Vec<u8>,
    /// Until when it is known.
    pub kept: Kept,
}

/// Until when an added process that has ended is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// Until Delete, which containerd never leaves out.
    #[default]
    UntilDelete,
    /// For a while, or until Delete: whoever added it may be gone.
    ForAWhile,
}

/// A process as State tells it.
#[derive(Clone, Debug)]
pub struct ProcessReport {
    /// The task's bundle.
    pub bundle: PathBuf,
    /// The pid that stands for it on the host; 0 before it has started.
    pub pid: u32,
    /// Where it stands.
    pub phase: Phase,
    /// Its input and output, as asked.
    pub io: IoRequest,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// A process with what it was made of.
#[derive(Clone, Debug)]
pub struct ProcessDetail {
    /// Its name; none for the init.
    pub exec: Option<ExecId>,
    /// Its pid in the guest, 0 before it has started: a name of no meaning on the host.
    pub guest_pid: u32,
    /// Where it stands.
    pub phase: Phase,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Its input and output, as asked.
    pub io: IoRequest,
    /// An OCI `Process` as JSON; empty if it cannot be told any more.
    pub spec: Vec<u8>,
}

/// FIFOs of someone who joins a running process.
#[derive(Clone, Debug, Default)]
pub struct AttachPaths {
    /// Read for input.
    pub stdin: Option<PathBuf>,
    /// Given the output from now on.
    pub stdout: Option<PathBuf>,
    /// Given the errors from now on.
    pub stderr: Option<PathBuf>,
}

/// Who is meant: init, or an added process.
pub type Which = Option<ExecId>;

/// What is asked of a task.
pub enum TaskRequest {
    /// Lets a process run and answers its pid on the host.
    Start(Which, Reply<u32>),
    /// Adds a process, to be started.
    Exec(Box<AddProcess>, Reply<()>),
    /// How a process stands.
    State(Which, Reply<ProcessReport>),
    /// Sends a signal, to every process of the container if `all`.
    Kill {
        /// Whom.
        which: Which,
        /// Its number.
        signal: u32,
        /// Everyone.
        all: bool,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Freezes the container.
    Pause(Reply<()>),
    /// Thaws it.
    Resume(Reply<()>),
    /// Sets a terminal's columns and rows; nothing without a terminal.
    Resize {
        /// Whose.
        which: Which,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Where the answer goes.
        reply: Reply<()>,
    },
    /// Ends the input once those who write to it have closed it.
    CloseIo(Which, Reply<()>),
    /// Changes limits: an OCI `LinuxResources` as JSON.
    Update(Vec<u8>, Reply<()>),
    /// Reads counters.
    Stats(Reply<CgroupFiles>),
    /// Where a process's exit will be seen.
    Wait(Which, Reply<watch::Receiver<Option<Exit>>>),
    /// Forgets a process that has ended, and answers how, with the pid it had on the host.
    Delete(Which, Reply<(u32, Exit)>),
    /// Joins a running process and answers whether it has a terminal.
    Attach(Which, AttachPaths, Reply<bool>),
    /// Processes of the container, as pids on the host.
    Pids(Reply<Vec<u32>>),
    /// The agent tells that something of the container was killed for memory. Nobody waits for an answer.
    OutOfMemory,
    /// Processes that were created or added and not deleted, ended ones too; init first.
    Processes(Reply<Vec<ProcessDetail>>),
}

/// A task's handle; clones name the same one.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    requests: mpsc::Sender<TaskRequest>,
    init: watch::Receiver<Option<Exit>>,
    /// Whether somebody has asked for the end of the whole task, be it in vain.
    unwanted: watch::Sender<bool>,
}

impl TaskHandle {
    /// Asks the task.
    pub async fn ask<T>(&self, make: impl FnOnce(Reply<T>) -> TaskRequest) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let request = make(reply);
        let deletes = matches!(request, TaskRequest::Delete(None, _));
        match self.requests.try_send(request) {
            Ok(()) if deletes => drop(self.unwanted.send_replace(true)),
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Error::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Error::UnknownContainer),
        }
        answer.await.map_err(|_| Error::UnknownContainer)?
    }

    /// Tells the task something. A task that is gone or has too much to do misses it.
    pub fn tell(&self, request: TaskRequest) {
        let _ = self.requests.try_send(request);
    }

    /// Waits until a process has ended. Any number of callers, also while the task has much to do: init's end is seen beside its
    /// requests, and for an added process a caller waits until the task has room for the question.
    pub async fn wait(&self, which: Which) -> Result<Exit> {
        if which.is_none() {
            let mut init = self.init.clone();
            // An error means that the task never came to be.
            let seen = init.wait_for(Option::is_some).await.map_err(|_| Error::UnknownContainer)?;
            return seen.ok_or(Error::Gone);
        }
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(TaskRequest::Wait(which, reply)).await;
        asked.map_err(|_| Error::UnknownContainer)?;
        let mut exit = answer.await.map_err(|_| Error::UnknownContainer)??;
        let seen = exit.wait_for(Option::is_some).await.map_err(|_| Error::Gone)?;
        seen.ok_or(Error::Gone)
    }
}

/// What a task begins with. Dropped, it never comes to be, and requests that waited for it hear that there is none.
#[derive(Debug)]
pub struct Announced {
    inbox: mpsc::Receiver<TaskRequest>,
    init: watch::Sender<Option<Exit>>,
    unwanted: watch::Receiver<bool>,
}

/// Makes the handle of a task that is to be.
pub fn announce() -> (TaskHandle, Announced) {
    let (requests, inbox) = mpsc::channel(QUEUE);
    let (init, seen) = watch::channel(None);
    let (unwanted, asked) = watch::channel(false);
    (TaskHandle { requests, init: seen, unwanted }, Announced { inbox, init, unwanted: asked })
}

impl Announced {
    /// Answers when somebody has asked for the task to be deleted.
    pub async fn unwanted(&mut self) {
        // An error means that nobody is left who could name it.
        let _ = self.unwanted.wait_for(|unwanted| *unwanted).await;
    }

    /// Ends when init has, or when the task is gone.
    pub fn init_exit(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut init = self.init.subscribe();
        async move {
            // An error means that the task is gone: that too is the end.
            let _ = init.wait_for(Option::is_some).await;
        }
    }

    /// The future that is the task. `reply` hears of its creation.
    pub fn begin(self, creation: Creation, reply: Reply<u32>) -> impl Future<Output = ()> + Send + use<> {
        actor::run(creation, reply, self.inbox, self.init)
    }
}
