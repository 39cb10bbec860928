//! Wait: answers when a process has ended.

use std::sync::Arc;

use super::{Result, Sandbox};
use crate::reaper::Exit;

impl Sandbox {
    /// 0 is init. Holds nothing while it waits.
    pub async fn wait(&self, id: &str, pid: u32) -> Result<Exit> {
        let container = self.find(id)?;
        let mut exit = container.task().await?.process(id, pid)?.watch();
        Ok(exit.wait().await)
    }

    /// The same, and then for what the process has written to be on its way to the host. Deleting the process ends that too.
    pub async fn wait_for_output(&self, id: &str, pid: u32) -> Result<Exit> {
        let container = self.find(id)?;
        let process = Arc::downgrade(container.task().await?.process(id, pid)?);
        let exit = self.wait(id, pid).await?;
        if let Some(written) = process.upgrade().map(|process| process.stdio().written()) {
            written.await;
        }
        Ok(exit)
    }
}
