//! What the agent and a set-up process say to each other.
//!
//! ```text
//!   agent                              set-up process
//!     │ ToSetup::Job ───────────────────▶ │
//!     │ ◀──────────────── NamespacesReady │   only if hooks of the agent's side wait for it
//!     │ ToSetup::Proceed ───────────────▶ │
//!     │ ◀──── Ready, with the terminal fd │
//!     │ ToSetup::Proceed ───────────────▶ │   a container's init waits here for Start; an exec does not
//!     │ ◀──────────────────── end of file │   the program runs: the socket closes as it is executed
//! ```
//!
//! At any point the other answer is `Failed`, after which the process ends. A frame is its length and a JSON document.

use std::io;

use serde::{Deserialize, Serialize};

use crate::setup::job::Job;

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSetup {
    /// The first word.
    Job(Job),
    /// Go on.
    Proceed,
}

/// To the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSetup {
    /// The namespaces are there and nothing is mounted yet.
    NamespacesReady,
    /// Everything is done but to execute the program. The end of a terminal is attached, if one was asked for.
    Ready,
    /// It went wrong.
    Failed(Failure),
}

/// What went wrong in a set-up process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("failed to {action}: {reason}")]
pub struct Failure {
    /// What was tried, with its operands.
    pub action: String,
    /// Why it failed.
    pub reason: String,
    /// The system's error number, if it was the system.
    pub errno: Option<i32>,
    /// Whether it is the program itself that cannot be executed, which is the caller's mistake and has exit codes of its
    /// own (126, 127).
    pub program: bool,
}

/// Adds to an error what was being tried.
pub trait Attempt<T> {
    /// `action` completes the sentence "failed to …".
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error = error.into();
            Failure {
                action: action(),
                errno: error.raw_os_error(),
                reason: describe(&error),
                program: false,
            }
        })
    }
}

impl Failure {
    /// A failure that no system call reported.
    pub fn new(action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { action: action.into(), reason: reason.into(), errno: None, program: false }
    }

    /// The program cannot be executed.
    pub fn of_program(program: &str, error: io::Error) -> Self {
        let action = format!("execute {program:?}");
        Self { action, reason: describe(&error), errno: error.raw_os_error(), program: true }
    }
}

/// The text of an error without Rust's "(os error 2)".
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// The longest frame from the agent: specs are a few kilobytes, filters up to 200.
pub const MAX_TO_SETUP: usize = 16 << 20;
/// The longest frame from a set-up process.
pub const MAX_FROM_SETUP: usize = 64 << 10;

/// Writes a message as a frame.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| io::ErrorKind::InvalidInput)?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// The length that a frame's first four bytes announce.
pub fn frame_length(head: [u8; 4], max: usize) -> io::Result<usize> {
    let length = u32::from_le_bytes(head) as usize;
    if length > max { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length) }
}
