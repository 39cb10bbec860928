//! What the command prints: tables, JSON, times and sizes as people read them, and its own remarks.

pub mod listing;
pub mod progress;
pub mod size;
mod table;
mod template;
pub mod time;

pub use table::Table;
pub use template::{Template, TemplateError};

use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, poll};

/// How long a remark waits for a reader of standard error.
const STALLED_MS: u16 = 1000;

/// A remark on standard error that does not end the command, nor hold it up: it is for a reader that reads (`2>&1 | less`).
pub fn warn(message: &str) {
    let stderr = io::stderr();
    if poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], STALLED_MS) != Ok(0) {
        let _ = writeln!(io::stderr(), "theca: {message}");
    }
}

/// Prints a line on standard output. A reader that has gone (`| head`) is no error.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
