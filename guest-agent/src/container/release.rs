//! Release: unmounts what Prepare mounted and forgets the container; what it wrote to a shared disk goes too.

use super::{Error, Result, Sandbox};

impl Sandbox {
    /// Idempotent; refused while there is a task.
    pub async fn release(&self, id: &str) -> Result<()> {
        let container = match self.find(id) {
            Err(Error::NoContainer(_)) => return Ok(()),
            found => found?,
        };
        let mut state = container.state.lock().await;
        if let Some(task) = &state.task {
            return task.status().require(false, id, "release");
        }
        let rootfs = state.rootfs.take();
        self.containers().by_id.remove(id);
        match rootfs {
            Some(rootfs) => Ok(rootfs.discard().await?),
            None => Ok(()),
        }
    }
}
