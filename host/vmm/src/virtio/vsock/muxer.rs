//! All connections of one guest: finds the one that a packet belongs to, and gives each its turn to send.
//!
//! Everything that a guest or a host program can make grow is bounded here: connections ([`MAX_CONNECTIONS`]), what their
//! backlogs may hold together ([`Windows`]), resets that wait for room in the guest ([`MAX_RESETS`]). Turns go round: a
//! connection sends one packet and goes to the end of the line, so a fast one takes nothing from a slow one, and one whose
//! stream is full or whose credit is used up leaves the line without holding anybody up.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::connection::{Connection, Key, Outgoing, Stream, Verdict};
use super::packet::{HOST_CID, Header, Op, TYPE_STREAM};
use crate::event_loop::Ready;
use crate::virtio::Buffers;

/// Connections at a time, draining ones included.
pub const MAX_CONNECTIONS: usize = 1024;
/// Connections at which the guest may dial no more: any program in it can, and the rest is for the host's own dials.
pub const MAX_AFTER_GUEST_DIAL: usize = MAX_CONNECTIONS / 2;
/// Resets waiting to be sent. More are dropped: who ignores its receive queue does not miss them.
pub const MAX_RESETS: usize = 1024;
/// First port that the host's end of a dialled connection gets.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// Payload bytes moved so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// From guest to host.
    pub from_guest_bytes: AtomicU64,
    /// From host to guest.
    pub to_guest_bytes: AtomicU64,
}

/// Why a program on the host gets no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// [`MAX_CONNECTIONS`] are open.
    #[error("the guest has {MAX_CONNECTIONS} connections already")]
    Full,
    /// The stream could not be set up.
    #[error("failed to set up the stream: {0}")]
    Stream(#[from] io::Error),
}

/// Receive buffers of all connections: large ones as long as memory is plenty, small ones from then on.
#[derive(Debug)]
struct Windows {
    left: u32,
}

impl Windows {
    const TOTAL: u32 = 32 << 20;
    const LARGE: u32 = 256 << 10;
    const SMALL: u32 = 16 << 10;

    /// [`MAX_CONNECTIONS`] times never takes more than there is: half of it serves as many small ones.
    fn take(&mut self) -> u32 {
        let window =
            if self.left.saturating_sub(Self::LARGE) >= Self::TOTAL / 2 { Self::LARGE } else { Self::SMALL };
        self.left = self.left.saturating_sub(window);
        window
    }

    fn give_back(&mut self, window: u32) {
        self.left += window;
    }
}

/// Connections of one guest over streams `S`.
#[derive(Debug)]
pub struct Muxer<S> {
    guest_cid: u64,
    host_ports: Vec<u32>,
    connections: HashMap<Key, Connection<S>>,
    turns: VecDeque<Key>,
    resets: VecDeque<Key>,
    windows: Windows,
    next_host_port: u32,
    deadlines: bool,
    counters: Arc<Counters>,
}

impl<S: Stream> Muxer<S> {
    /// No connections yet. The guest may dial `host_ports` and no others.
    pub fn new(guest_cid: u64, host_ports: Vec<u32>) -> Self {
        Self {
            guest_cid,
            host_ports,
            connections: HashMap::new(),
            turns: VecDeque::new(),
            resets: VecDeque::new(),
            windows: Windows { left: Windows::TOTAL },
            next_host_port: FIRST_HOST_PORT,
            deadlines: false,
            counters: Arc::default(),
        }
    }

    /// Payload bytes moved so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Connections at the moment.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Bytes that streams have not taken, of all connections.
    pub fn backlog(&self) -> usize {
        self.connections.values().map(Connection::backlog).sum()
    }

    /// Ends everything without a word to the guest, whose driver is gone.
    pub fn clear(&mut self) {
        self.connections.clear();
        self.turns.clear();
        self.resets.clear();
        self.windows.left = Windows::TOTAL;
        self.deadlines = false;
    }

    /// A program on the host asks for `guest_port`; `open` makes its stream known under the new key.
    pub fn dial(
        &mut self,
        guest_port: u32,
        now: Instant,
        open: impl FnOnce(Key) -> io::Result<S>,
    ) -> Result<Key, DialError> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return Err(DialError::Full);
        }
        let key = self.free_key(guest_port);
        let stream = open(key)?;
        let window = self.windows.take();
        self.insert(key, Connection::dial(stream, window, now));
        Ok(key)
    }

    /// A packet from the guest. `payload` is what came behind the header; `accept` makes a stream for a dial of the guest.
    pub fn guest_packet(
        &mut self,
        header: &Header,
        payload: &mut Buffers<'_>,
        accept: impl FnOnce(Key) -> io::Result<S>,
    ) {
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            // There is nobody whom an answer would reach.
            return;
        }
        let key = Key { host_port: header.dst_port, guest_port: header.src_port };
        let complete = header.kind == TYPE_STREAM && header.len as usize <= payload.len();
        let verdict = match self.connections.get_mut(&key) {
            Some(_) if !complete => Verdict::Reset,
            Some(connection) => {
                payload.truncate(header.len as usize);
                if header.op == Op::Data {
                    self.counters.from_guest_bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
                }
                connection.guest_packet(key, header, payload)
            }
            None if complete && header.op == Op::Request => return self.accept(key, header, accept),
            // A reset is never answered, or two sides could reset each other for ever.
            None if header.op == Op::Reset => return,
            None => return self.reset(key),
        };
        self.settle(key, verdict);
    }

    fn accept(&mut self, key: Key, request: &Header, accept: impl FnOnce(Key) -> io::Result<S>) {
        let room = self.connections.len() < MAX_AFTER_GUEST_DIAL;
        let allowed = room && self.host_ports.contains(&key.host_port);
        match if allowed { accept(key).ok() } else { None } {
            Some(stream) => {
                let window = self.windows.take();
                self.insert(key, Connection::accept(stream, window, request));
            }
            None => self.reset(key),
        }
    }

    /// The stream of a connection is ready.
    pub fn host_ready(&mut self, key: Key, ready: Ready) {
        if let Some(connection) = self.connections.get_mut(&key) {
            let verdict = connection.host_ready(ready);
            self.settle(key, verdict);
        }
    }

    /// Whether [`Muxer::next_packet`] is worth calling.
    pub fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.turns.is_empty()
    }

    /// The next packet for the guest, with its payload read into `payload`.
    pub fn next_packet(&mut self, payload: &mut Buffers<'_>, now: Instant) -> Option<Header> {
        if let Some(key) = self.resets.pop_front() {
            return Some(self.header(key, Outgoing { op: Op::Reset, flags: 0, len: 0 }, 0, 0));
        }
        // Whoever has nothing to say leaves the line, so this ends.
        while let Some(key) = self.turns.pop_front() {
            let Some(connection) = self.connections.get_mut(&key) else { continue };
            connection.queued = false;
            let outgoing = connection.next_packet(payload, now);
            let (window, forwarded) = match outgoing {
                Some(_) => (connection.credit().window(), connection.credit().announce()),
                None => (0, 0),
            };
            self.settle(key, Verdict::Keep);
            if let Some(outgoing) = outgoing {
                self.counters.to_guest_bytes.fetch_add(outgoing.len.into(), Ordering::Relaxed);
                return Some(self.header(key, outgoing, window, forwarded));
            }
        }
        None
    }

    /// Whether a deadline runs, so that [`Muxer::expire`] has to be called from time to time.
    pub fn has_deadlines(&self) -> bool {
        self.deadlines
    }

    /// Ends what the guest left open for too long.
    pub fn expire(&mut self, now: Instant) {
        let expired: Vec<Key> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.expired(now) != Verdict::Keep)
            .map(|(key, _)| *key)
            .collect();
        for key in expired {
            self.settle(key, Verdict::Reset);
        }
        self.deadlines = self.connections.values().any(|connection| connection.deadline().is_some());
    }

    fn free_key(&mut self, guest_port: u32) -> Key {
        loop {
            let key = Key { host_port: self.next_host_port, guest_port };
            self.next_host_port = self.next_host_port.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            // Ends: there are far more ports than connections. The last port means "any".
            if key.host_port != u32::MAX && !self.connections.contains_key(&key) {
                return key;
            }
        }
    }

    fn insert(&mut self, key: Key, connection: Connection<S>) {
        self.connections.insert(key, connection);
        self.settle(key, Verdict::Keep);
    }

    /// Draws the consequences of what has just happened to a connection.
    fn settle(&mut self, key: Key, verdict: Verdict) {
        match verdict {
            Verdict::Keep => {}
            Verdict::Drain => self.reset(key),
            Verdict::Close => return self.remove(key),
            Verdict::Reset => {
                self.reset(key);
                return self.remove(key);
            }
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        self.deadlines |= connection.deadline().is_some();
        if connection.wants_turn() && !connection.queued {
            connection.queued = true;
            self.turns.push_back(key);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(mut connection) = self.connections.remove(&key) {
            self.windows.give_back(connection.credit().window());
            if connection.queued {
                // Else the line would grow with connections that come and go while the guest takes nothing.
                self.turns.retain(|waiting| *waiting != key);
            }
        }
    }

    fn reset(&mut self, key: Key) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(key);
        }
    }

    fn header(&self, key: Key, outgoing: Outgoing, buf_alloc: u32, fwd_cnt: u32) -> Header {
        Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            src_port: key.host_port,
            dst_port: key.guest_port,
            len: outgoing.len,
            kind: TYPE_STREAM,
            op: outgoing.op,
            flags: outgoing.flags,
            buf_alloc,
            fwd_cnt,
        }
    }
}

#[cfg(test)]
#[path = "muxer_test.rs"]
mod tests;
