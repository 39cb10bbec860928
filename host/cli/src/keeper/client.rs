//! One connection to a keeper, and what its errors mean to a person.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use theca_proto::containerd::task::v3 as task;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::io::containerd::cgroups::v2::Metrics;
use theca_proto::theca::keeper::v1 as keeper;
use theca_proto::theca::keeper::v1::failure::Cause;
use theca_proto::theca::keeper::v1::keeper_ttrpc::KeeperClient;
use theca_proto::ttrpc_glue::{self, Answer, Caller};
use theca_proto::type_url;
use ttrpc::r#async::Client;
use ttrpc::r#async::transport::Socket;
use ttrpc::{Code, Error};

/// A bound for calls that a healthy keeper answers from what it knows; long, because the machine may be busy.
const QUICK: Duration = Duration::from_secs(20);
/// A bound for what a guest has to do. A healthy one takes milliseconds; one that lacks memory may never come to it.
const START: Duration = Duration::from_secs(120);
/// The same for a container whose root the keeper first has to copy out of a folder, however large.
const COPY_AND_CREATE: Duration = Duration::from_secs(3600);
/// The status of a process that SIGKILL, or the loss of its VM, has ended.
pub const KILLED: u32 = 137;

/// A keeper's answer that was no success.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The keeper refused or failed; its own sentence.
    #[error("{message}")]
    Refused {
        /// The status code.
        code: Code,
        /// What the keeper or the agent says, for people.
        message: String,
        /// What a container that did not start has itself to blame for.
        cause: Option<Cause>,
    },
    /// The connection broke.
    #[error("the sandbox ended while it was asked to {asked}; `theca console` may show why")]
    Gone {
        /// The request.
        asked: &'static str,
    },
    /// No answer came.
    #[error(
        "the sandbox did not {asked} within {limit:?}: its guest may have too little memory (give it more with --memory), or \
         this machine too much to do"
    )]
    Late {
        /// The request.
        asked: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// No connection could be made.
    #[error("failed to reach the keeper at {address}")]
    Unreachable {
        /// Its socket.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

impl KeeperError {
    /// Whether it says that the container or process is not, or no longer, there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NOT_FOUND, .. })
    }

    /// Whether no answer came in time, from the keeper or from the guest behind it.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Refused { code: Code::DEADLINE_EXCEEDED, .. })
    }

    /// Whether the sandbox has ended, or ends: a keeper on its way out may still answer.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Refused { code: Code::UNAVAILABLE, .. })
    }
}

/// A connection to a keeper; clones share it.
#[derive(Clone)]
pub struct Keeper {
    task: TaskClient,
    quick_task: TaskClient,
    keeper: KeeperClient,
    id: String,
}

impl Keeper {
    /// Connects to the keeper of container `id`. `None` if there is none: no socket, or nobody behind it.
    pub async fn connect(socket: &Path, id: &str) -> Result<Option<Self>, KeeperError> {
        match tokio::net::UnixStream::connect(socket).await {
            Ok(stream) => {
                let caller = Caller::new(Client::new(Socket::from(stream)));
                let quick = caller.with_timeout(QUICK);
                let keeper = KeeperClient::new(quick.clone());
                let (task, quick_task) = (TaskClient::new(caller), TaskClient::new(quick));
                Ok(Some(Self { task, quick_task, keeper, id: id.to_owned() }))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(source) => Err(KeeperError::Unreachable { address: socket.display().to_string(), source }),
        }
    }

    /// Makes the task, without running it.
    pub async fn create(&self, mut request: task::CreateTaskRequest) -> Result<(), KeeperError> {
        request.id = self.id.clone();
        let copies = request.rootfs.iter().any(|mount| mount.r#type == "bind");
        let limit = if copies { COPY_AND_CREATE } else { START };
        within(limit, "create the container", self.task.create(request)).await.map(drop)
    }

    /// Runs a created task, or a process of it.
    pub async fn start(&self, exec_id: &str) -> Result<u32, KeeperError> {
        let request = task::StartRequest { id: self.id.clone(), exec_id: exec_id.to_owned() };
        within(START, "start the container", self.task.start(request)).await.map(|response| response.pid)
    }

    /// Adds a process to a running task; [`Keeper::start`] runs it.
    pub async fn exec(&self, mut request: task::ExecProcessRequest) -> Result<(), KeeperError> {
        request.id = self.id.clone();
        within(START, "add a process", self.task.exec(request)).await
    }

    /// Waits for the end of a task's init, or of one of its processes: its exit status and when, in milliseconds since
    /// 1970.
    pub async fn wait(&self, exec_id: &str) -> Result<(u32, u64), KeeperError> {
        let request = task::WaitRequest { id: self.id.clone(), exec_id: exec_id.to_owned() };
        let response = explain("wait for the container", self.task.wait(request).await)?;
        let at = response.exited_at.unwrap_or_default();
        let ms =
            u64::try_from(at.seconds.saturating_mul(1000) + i64::from(at.nanos / 1_000_000)).unwrap_or(0);
        Ok((response.exit_status, ms))
    }

    /// Sends a signal to the init, to one process, or to all of a container's.
    pub async fn kill(&self, exec_id: &str, signal: i32, all: bool) -> Result<(), KeeperError> {
        let signal = signal.unsigned_abs();
        let request = task::KillRequest { id: self.id.clone(), exec_id: exec_id.to_owned(), signal, all };
        explain("send a signal", self.quick_task.kill(request).await)
    }

    /// Tells a process's terminal how large it is.
    pub async fn resize(&self, exec_id: &str, columns: u16, rows: u16) -> Result<(), KeeperError> {
        let request = task::ResizePtyRequest {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            width: columns.into(),
            height: rows.into(),
        };
        explain("resize the terminal", self.quick_task.resize_pty(request).await)
    }

    /// Ends the input of a process, once what was written has been read.
    pub async fn close_stdin(&self, exec_id: &str) -> Result<(), KeeperError> {
        let request = task::CloseIoRequest { id: self.id.clone(), exec_id: exec_id.to_owned(), stdin: true };
        explain("close the input", self.quick_task.close_io(request).await)
    }

    /// How the task stands.
    pub async fn state(&self) -> Result<task::StateResponse, KeeperError> {
        let request = task::StateRequest { id: self.id.clone(), exec_id: String::new() };
        explain("tell its state", self.quick_task.state(request).await)
    }

    /// Whether the guest's kernel has killed a process of the container for memory; no, when nobody can tell any more.
    pub async fn oom_killed(&self) -> bool {
        let request = task::StatsRequest { id: self.id.clone() };
        let counters = self.quick_task.stats(request).await.ok().and_then(|answer| answer.stats);
        let counters = counters.and_then(|counters| Metrics::decode(counters.value.as_slice()).ok());
        counters.and_then(|counters| counters.memory_events).is_some_and(|events| events.oom_kill > 0)
    }

    /// Freezes every process of the container.
    pub async fn pause(&self) -> Result<(), KeeperError> {
        explain("pause", self.task.pause(task::PauseRequest { id: self.id.clone() }).await)
    }

    /// Undoes [`Keeper::pause`].
    pub async fn resume(&self) -> Result<(), KeeperError> {
        explain("resume", self.task.resume(task::ResumeRequest { id: self.id.clone() }).await)
    }

    /// Forgets an ended task or process.
    pub async fn delete(&self, exec_id: &str) -> Result<(), KeeperError> {
        let request = task::DeleteRequest { id: self.id.clone(), exec_id: exec_id.to_owned() };
        within(START, "delete the container", self.task.delete(request)).await.map(drop)
    }

    /// Ends the sandbox, whatever runs in it. Once this answers, or the connection breaks, it has gone.
    pub async fn shutdown(&self) -> Result<(), KeeperError> {
        let request = task::ShutdownRequest { id: self.id.clone(), now: true };
        match explain("end", self.task.shutdown(request).await) {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }

    /// Joins the stdio of a running process. Returns whether it has a terminal.
    pub async fn attach(&self, mut request: keeper::AttachRequest) -> Result<bool, KeeperError> {
        request.id = self.id.clone();
        explain("attach", self.keeper.attach(request).await).map(|response| response.terminal)
    }

    /// The guest's kernel log.
    pub async fn kernel_log(&self) -> Result<Vec<u8>, KeeperError> {
        let answer = self.keeper.kernel_log(keeper::KernelLogRequest {}).await;
        explain("show the kernel log", answer).map(|response| response.data.into())
    }

    /// What is behind an exit status that tells of a kill, if it was not a signal: the VM failed under the process.
    pub async fn failure_behind(&self, status: u32) -> Option<String> {
        if status != KILLED {
            return None;
        }
        let failure = self.info().await.ok()?.vm_failure;
        (!failure.is_empty()).then(|| format!("the sandbox's VM failed: {failure}"))
    }

    /// The sandbox as it stands.
    pub async fn info(&self) -> Result<keeper::InfoResponse, KeeperError> {
        explain("describe itself", self.keeper.info(keeper::InfoRequest {}).await)
    }
}

/// What is asked of a guest, which may never answer.
async fn within<T>(
    limit: Duration,
    asked: &'static str,
    call: impl Future<Output = Answer<T>>,
) -> Result<T, KeeperError> {
    let answer = tokio::time::timeout(limit, call).await;
    explain(asked, answer.map_err(|_| KeeperError::Late { asked, limit })?)
}

/// A status is the keeper's word; any other error means that the connection is gone.
fn explain<T>(asked: &'static str, answer: Answer<T>) -> Result<T, KeeperError> {
    answer.map_err(|error| match error {
        Error::RpcStatus(status) => {
            let detail: Option<keeper::Failure> = ttrpc_glue::detail(&status, type_url::FAILURE);
            let cause = detail.and_then(|failure| failure.cause);
            KeeperError::Refused { code: status.code(), message: status.message().to_owned(), cause }
        }
        _ => KeeperError::Gone { asked },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_never_answers_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("k");
        let _silent = tokio::net::UnixListener::bind(&socket).unwrap();
        let keeper = Keeper::connect(&socket, "id").await.unwrap().unwrap();
        let late = keeper.start("").await.unwrap_err();
        assert!(matches!(late, KeeperError::Late { .. }) && late.to_string().contains("--memory"), "{late}");
        let late = keeper.create(task::CreateTaskRequest::default()).await.unwrap_err();
        assert!(
            late.to_string().starts_with("the sandbox did not create the container within 120s"),
            "{late}"
        );
    }
}
