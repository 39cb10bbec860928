//! Pause and Resume: the freezer of the container's cgroup.

use super::{Phase, Result, Sandbox};

impl Sandbox {
    /// Answers when every process stands still.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let container = self.find_open(id)?;
        let mut task = container.task().await?;
        let status = task.status();
        status.require(status.can_pause(), id, "pause")?;
        if let Err(error) = task.cgroup.freeze().await {
            // Half frozen is no state: let all go on.
            task.cgroup.thaw().await?;
            return Err(error.into());
        }
        task.phase = Phase::Paused;
        Ok(())
    }

    /// Answers when the processes go on.
    pub async fn resume(&self, id: &str) -> Result<()> {
        let container = self.find(id)?;
        let mut task = container.task().await?;
        let status = task.status();
        status.require(status.can_resume(), id, "resume")?;
        task.cgroup.thaw().await?;
        task.phase = Phase::Running;
        Ok(())
    }
}
