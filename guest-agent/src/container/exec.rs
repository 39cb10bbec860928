//! Exec: starts another process in a running container.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::outbox::What;
use super::{Result, Sandbox};
use crate::oci;
use crate::process::Process;
use crate::process::launch::{Launch, Launched};
use crate::process::stdio::{Names, Prepared};
use crate::setup::job::Job;
use crate::sys::spawn::PidNamespace;

use super::Error;

/// What to start.
pub struct ExecRequest<'a> {
    /// An OCI `Process` as JSON.
    pub process: &'a [u8],
    /// Its streams.
    pub names: Names,
}

impl Sandbox {
    /// Answers the pid once the program runs.
    pub async fn exec(&self, id: &str, request: ExecRequest<'_>) -> Result<u32> {
        let container = self.find_open(id)?;
        let mut task = container.task().await?;
        let status = task.status();
        status.require(status.can_exec(), id, "exec in")?;
        let process = oci::parse_process(request.process)?;
        let job = oci::process_job(&process, &container.spec, request.names.terminal)?;
        let stdio =
            Prepared::new(&request.names, &self.streams).map_err(Error::io("set up the standard streams"))?;
        let folder = task.cgroup.open()?;
        let launch = Launch {
            program: &self.config.program,
            stdio: stdio.ends(),
            cgroup: Some(folder.as_fd()),
            pid_namespace: PidNamespace::Join(task.init.pidfd()),
            container: Some(task.init.pidfd()),
        };
        let Launched { pid, pidfd, exit, mut channel } =
            launch.start(&self.reaper, Job::Exec(Box::new(job))).await?;
        let terminal = channel.ready().await?;
        let stdio = stdio.connect(terminal).map_err(Error::io("connect the standard streams"))?;
        channel.finished().await?;
        let process = Arc::new(Process::new(pid, pidfd, exit, process, request.names, stdio));
        let pid = pid.as_raw() as u32;
        container.outbox.tell(pid, What::ExecAdded);
        self.announce_exit(&process, &container, Arc::clone(&task.memory));
        task.execs.insert(pid, process);
        Ok(pid)
    }
}
