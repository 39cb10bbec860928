//! Start: lets init execute the container's program.

use super::outbox::What;
use super::{Error, Phase, Result, Sandbox};
use crate::oci::HookPoint;

impl Sandbox {
    /// Answers once the program runs. If it cannot be executed the task is stopped and has to be deleted.
    pub async fn start(&self, id: &str) -> Result<()> {
        let container = self.find_open(id)?;
        let mut task = container.task().await?;
        let status = task.status();
        let Phase::Created(channel) = &mut task.phase else {
            return status.require(false, id, "start");
        };
        status.require(status.can_start(), id, "start")?;
        channel.proceed().await?;
        channel.finished().await?;
        task.phase = Phase::Running;
        let pid = task.init.pid.as_raw();
        container.outbox.tell(pid as u32, What::Started);
        if let Err(error) = self.run_hooks(&container, HookPoint::Poststart, "running", pid).await {
            // The runtime spec wants the container killed.
            task.init.signal(libc::SIGKILL).map_err(Error::io("kill the container"))?;
            return Err(error);
        }
        Ok(())
    }
}
