//! Wait: answers when a process has ended.

use super::{Result, Sandbox};
use crate::reaper::Exit;

impl Sandbox {
    /// 0 is init. Holds nothing while it waits.
    pub async fn wait(&self, id: &str, pid: u32) -> Result<Exit> {
        let container = self.find(id)?;
        let mut exit = container.task().await?.process(id, pid)?.watch();
        Ok(exit.wait().await)
    }
}
