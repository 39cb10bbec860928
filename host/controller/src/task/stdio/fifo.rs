//! Opening FIFOs without waiting for the other side.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::net::unix::pipe;

use super::StdioError;

/// A process's own input: a reader, and a writer held so that the input does not end when a client goes away and another
/// comes back. It ends on CloseIO.
pub struct Source {
    pub reader: pipe::Receiver,
    pub kept_open: File,
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, StdioError> {
        let reader = open_reader(path)?;
        let mut options = OpenOptions::new();
        let kept_open =
            options.write(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed(path))?;
        Ok(Self { reader, kept_open })
    }
}

/// Opens for reading; does not wait for a writer.
pub fn open_reader(path: &Path) -> Result<pipe::Receiver, StdioError> {
    pipe::OpenOptions::new().open_receiver(path).map_err(failed(path))
}

/// Opens an output whose readers come and go. Open for reading too, so that neither a reader that is not there yet nor one
/// that has left is an error: what is written waits in the FIFO.
pub fn open_output(path: &Path) -> Result<pipe::Sender, StdioError> {
    pipe::OpenOptions::new().read_write(true).open_sender(path).map_err(failed(path))
}

/// Opens an output whose reader must be there already; its leaving is an error on write.
pub fn open_read_output(path: &Path) -> Result<pipe::Sender, StdioError> {
    pipe::OpenOptions::new().open_sender(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> StdioError {
    let path = path.to_owned();
    move |source| StdioError::Fifo { path, source }
}
