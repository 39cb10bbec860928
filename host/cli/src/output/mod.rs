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

/// A remark on standard error that does not end the command.
pub fn warn(message: &str) {
    eprintln!("theca: {message}");
}

/// Prints a line on standard output. A reader that has gone (`| head`) is no error.
pub fn line(text: &str) -> io::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
