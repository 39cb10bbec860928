//! Exec: starts another process in a running container.
//!
//! What sets it up lives in the container already, where its root can stop it for as long as it likes. So the container's lock is
//! not held meanwhile: Kill and all others work, and what has become of the container is looked at once the program runs.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::outbox::What;
use super::{Error, Result, Sandbox};
use crate::oci;
use crate::process::Process;
use crate::process::launch::{Launch, Launched};
use crate::process::stdio::{Names, Prepared};
use crate::setup::job::Job;
use crate::sys::spawn::PidNamespace;

/// What to start.
pub struct ExecRequest<'a> {
    /// An OCI `Process` as JSON.
    pub process: &'a [u8],
    /// Its streams.
    pub names: Names,
}

/// A process whose program runs and that no container has yet. Dropping it kills it: nobody could find it.
struct Unclaimed(Option<Arc<Process>>);

impl Sandbox {
    /// Answers the pid once the program runs.
    pub async fn exec(&self, id: &str, request: ExecRequest<'_>) -> Result<u32> {
        let container = self.find_open(id)?;
        let (init, cgroup) = {
            let task = container.task().await?;
            let status = task.status();
            status.require(status.can_exec(), id, "exec in")?;
            (Arc::clone(&task.init), Arc::clone(&task.cgroup))
        };
        let process = oci::parse_process(request.process)?;
        let job = oci::process_job(&process, &container.spec, request.names.terminal)?;
        let stdio =
            Prepared::new(&request.names, &self.streams).map_err(Error::io("set up the standard streams"))?;
        let folder = cgroup.open()?;
        let launch = Launch {
            program: &self.config.program,
            stdio: stdio.ends(),
            cgroup: Some(folder.as_fd()),
            pid_namespace: PidNamespace::Join(init.pidfd()),
            container: Some(init.pidfd()),
        };
        let Launched { pid, pidfd, exit, mut channel } =
            launch.start(&self.reaper, Job::Exec(Box::new(job))).await?;
        let terminal = channel.ready().await?;
        let stdio = stdio.connect(terminal).map_err(Error::io("connect the standard streams"))?;
        channel.finished().await?;
        let process = Arc::new(Process::new(pid, pidfd, exit, process, request.names, stdio));
        let unclaimed = Unclaimed(Some(process));
        let mut task = container.task().await?;
        if !Arc::ptr_eq(&task.init, &init) {
            // Deleted, and made anew.
            return Err(Error::NoTask(id.to_owned()));
        }
        let pid = pid.as_raw() as u32;
        if let Some(process) = unclaimed.claim() {
            container.outbox.tell(pid, What::ExecAdded);
            self.announce_exit(&process, &container, Arc::clone(&task.memory));
            task.execs.insert(pid, process);
        }
        Ok(pid)
    }
}

impl Unclaimed {
    fn claim(mut self) -> Option<Arc<Process>> {
        self.0.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|process| process.signal(libc::SIGKILL)) {
            tracing::warn!(%error, "a process that nobody waits for goes on");
        }
    }
}
