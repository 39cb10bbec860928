//! The host's side: streams of Unix sockets, and programs that are still saying which guest port they want.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, sendmsg};

use super::connection::Stream;
use super::handshake::{self, Line, MAX_LINE};
use crate::event_loop::{Ready, Registered};
use crate::sys::guest_io;
use crate::virtio::Buffers;

/// How long a program may take to say which port it wants.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Programs that may be about to say so at a time.
pub const MAX_HANDSHAKES: usize = 64;

impl Stream for Registered<UnixStream> {
    fn read(&mut self, into: &Buffers<'_>) -> io::Result<usize> {
        guest_io::read(self.as_fd(), into.pieces())
    }

    fn write(&mut self, from: &Buffers<'_>) -> io::Result<usize> {
        guest_io::send(self.as_fd(), from.pieces())
    }

    fn write_bytes(&mut self, from: &[u8]) -> io::Result<usize> {
        let pieces = [IoSlice::new(from)];
        loop {
            // The same call as for guest memory, so that the thread's filter needs no other.
            match sendmsg::<()>(self.as_raw_fd(), &pieces, &[], MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn shutdown(&mut self, how: Shutdown) {
        // Fails only when the peer is gone, and then there is nothing left to end.
        let _ = UnixStream::shutdown(self, how);
    }
}

/// Streams whose line is not complete.
#[derive(Default)]
pub struct Handshakes {
    waiting: HashMap<u64, Handshake>,
    next: u64,
}

struct Handshake {
    stream: Registered<UnixStream>,
    deadline: Instant,
}

impl Handshakes {
    /// A number for the next stream, unless as many as may be are waiting already.
    pub fn reserve(&mut self) -> Option<u64> {
        if self.waiting.len() >= MAX_HANDSHAKES {
            return None;
        }
        self.next += 1;
        Some(self.next)
    }

    /// A fresh stream under its number. It is looked at when it is ready for the first time.
    pub fn insert(&mut self, number: u64, stream: Registered<UnixStream>, now: Instant) {
        self.waiting.insert(number, Handshake { stream, deadline: now + HANDSHAKE_TIMEOUT });
    }

    /// Looks at a stream; gives it back with the wanted port once its line is complete. One that will never be is dropped,
    /// which its program sees as the end of the stream.
    pub fn ready(&mut self, number: u64, ready: Ready) -> Option<(UnixStream, u32)> {
        let handshake = self.waiting.get_mut(&number)?;
        let line = peek(&handshake.stream);
        match line {
            Ok(Line::Incomplete) if !ready.hangup => None,
            Ok(Line::Connect { port, length }) => {
                let mut taken = [0; MAX_LINE];
                let mut stream = self.waiting.remove(&number)?.stream.into_inner();
                stream.read_exact(&mut taken[..length]).ok()?;
                Some((stream, port))
            }
            Ok(Line::Incomplete | Line::Malformed) | Err(_) => {
                self.waiting.remove(&number);
                None
            }
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops those that took too long.
    pub fn expire(&mut self, now: Instant) {
        self.waiting.retain(|_, handshake| handshake.deadline > now);
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

fn peek(stream: &UnixStream) -> io::Result<Line> {
    let mut bytes = [0; MAX_LINE];
    match recv(stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Ok(Line::Malformed),
        Ok(count) => Ok(handshake::parse(&bytes[..count])),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Line::Incomplete),
        Err(error) => Err(error.into()),
    }
}
