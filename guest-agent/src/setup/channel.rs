//! The set-up process's end of the handshake: plain blocking reads and writes.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::Result;
use super::job::Job;
use crate::process::handshake::{Attempt, Failure, FromSetup, MAX_TO_SETUP, ToSetup, encode, frame_length};
use crate::sys;

/// A socket to the agent.
pub struct Channel(UnixStream);

impl Channel {
    /// Speaks over a connected stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket.into())
    }

    /// Waits for the job.
    pub fn receive_job(&mut self) -> Result<Job> {
        match self.receive()? {
            ToSetup::Job(job) => Ok(job),
            ToSetup::Proceed => Err(Failure::new("read the job", "there is none")),
        }
    }

    /// Waits for the word to go on.
    pub fn wait(&mut self) -> Result<()> {
        match self.receive()? {
            ToSetup::Proceed => Ok(()),
            ToSetup::Job(_) => Err(Failure::new("wait for the agent", "it sent a second job")),
        }
    }

    /// Tells the agent something, with a descriptor attached if there is one.
    pub fn send(&mut self, message: &FromSetup, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let action = || "answer the agent".to_owned();
        let frame = encode(message).attempt(action)?;
        let sent = sys::fd::send(self.0.as_fd(), &frame, fd).attempt(action)?;
        self.0.write_all(&frame[sent..]).attempt(action)
    }

    fn receive(&mut self) -> Result<ToSetup> {
        let action = || "hear from the agent".to_owned();
        let mut head = [0; 4];
        self.0.read_exact(&mut head).attempt(action)?;
        let mut body = vec![0; frame_length(head, MAX_TO_SETUP).attempt(action)?];
        self.0.read_exact(&mut body).attempt(action)?;
        serde_json::from_slice(&body).attempt(action)
    }
}
