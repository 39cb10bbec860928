//! CloseIO and ResizePty: what can be done to the streams of a process.

use super::{Error, Result, Sandbox};

impl Sandbox {
    /// Ends a process's stdin once what was sent has arrived.
    pub async fn close_stdin(&self, id: &str, pid: u32) -> Result<()> {
        let container = self.find(id)?;
        let task = container.task().await?;
        task.process(id, pid)?.stdio().close_stdin();
        Ok(())
    }

    /// Resizes a process's terminal; without one there is nothing to do.
    pub async fn resize(&self, id: &str, pid: u32, columns: u32, rows: u32) -> Result<()> {
        let container = self.find(id)?;
        let task = container.task().await?;
        let cells = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
        task.process(id, pid)?
            .stdio()
            .resize(cells(columns), cells(rows))
            .map_err(Error::io(format!("resize the terminal to {columns} by {rows}")))
    }
}
