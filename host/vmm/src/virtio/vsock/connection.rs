//! One connection between a guest port and a stream on the host: a state machine without a VM or a socket.
//!
//! ```text
//!              REQUEST ▶ guest              guest ends its side, or breaks a rule
//!  Dialling ──────────────────▶ Open ─────────────────────────────────────▶ gone
//!     │        ◀ RESPONSE         │                                           ▲
//!     └─ no answer ─▶ gone        └─ guest done, host still reading ─▶ Draining
//! ```
//!
//! Guest to host: payload goes from guest memory to the stream in one call; what the stream does not take waits in a backlog
//! that credit bounds. Host to guest: the stream is read into the guest's own buffer, as much as its credit allows, when
//! the muxer gives this connection a turn. Control packets are flags here, not a queue: there is never more than one of each.
//!
//! Each direction ends on its own. What a guest had sent before it ended its side reaches the stream however slowly that is
//! read (Draining); a connection that the guest cuts off without ending it is cut off.

use std::io;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::credit::Credit;
use super::handshake;
use super::packet::{Header, NO_RECEIVE, NO_SEND, Op};
use crate::event_loop::Ready;
use crate::virtio::Buffers;

/// How long a guest may take to answer a request.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a guest may take to confirm that both directions are over.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);
/// Most payload in one packet; also what Linux sends at most.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The host's end: a stream that never blocks.
pub trait Stream {
    /// Fills the buffers as far as there is something to read; 0 is the end.
    fn read(&mut self, into: &Buffers<'_>) -> io::Result<usize>;
    /// Writes as much as there is room for.
    fn write(&mut self, from: &Buffers<'_>) -> io::Result<usize>;
    /// Writes as much as there is room for.
    fn write_bytes(&mut self, from: &[u8]) -> io::Result<usize>;
    /// Ends one direction, or both.
    fn shutdown(&mut self, how: Shutdown);
}

/// What identifies a connection: the guest has one context id, the host another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Port on the host.
    pub host_port: u32,
    /// Port in the guest.
    pub guest_port: u32,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It does.
    Keep,
    /// It is over and the guest knows.
    Close,
    /// It is over and the guest has to be told.
    Reset,
    /// The guest has to be told that it is over; the host's side still goes on.
    Drain,
}

/// A packet that a connection wants to send; the muxer adds addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is for.
    pub op: Op,
    /// Flags.
    pub flags: u32,
    /// Payload bytes that were put into the guest's buffer.
    pub len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Dialling,
    Open,
    Draining,
}

/// Packets to be sent once, whatever caused them how often.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    request: bool,
    response: bool,
    credit_update: bool,
    credit_request: bool,
}

/// Which directions are still open, as each side has declared.
#[derive(Clone, Copy, Debug)]
struct Ends {
    guest_sends: bool,
    guest_receives: bool,
    host_sends: bool,
    host_receives: bool,
}

/// One connection; see the module's documentation.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    phase: Phase,
    credit: Credit,
    backlog: Backlog,
    due: Due,
    ends: Ends,
    /// Shutdown flags that the guest has been sent.
    told: u32,
    /// The stream may have something to read.
    readable: bool,
    /// The peer has ended its side, so the end of the stream has to be read.
    hangup: bool,
    /// The peer is gone, so there is no use in writing either.
    closed: bool,
    /// A credit request was sent and not answered yet.
    starved: bool,
    deadline: Option<Instant>,
    /// In the muxer's queue of turns.
    pub(super) queued: bool,
}

impl<S: Stream> Connection<S> {
    /// The host dials: the guest is asked, and until it answers nothing flows.
    pub fn dial(stream: S, window: u32, now: Instant) -> Self {
        let due = Due { request: true, ..Due::default() };
        Self::new(stream, Phase::Dialling, window, due, Some(now + DIAL_TIMEOUT))
    }

    /// The guest dialled and the host took the call.
    pub fn accept(stream: S, window: u32, request: &Header) -> Self {
        let due = Due { response: true, ..Due::default() };
        let mut connection = Self::new(stream, Phase::Open, window, due, None);
        connection.credit.peer_said(request.buf_alloc, request.fwd_cnt);
        connection
    }

    fn new(stream: S, phase: Phase, window: u32, due: Due, deadline: Option<Instant>) -> Self {
        let ends = Ends { guest_sends: true, guest_receives: true, host_sends: true, host_receives: true };
        Self {
            stream,
            phase,
            credit: Credit::new(window),
            backlog: Backlog::default(),
            due,
            ends,
            told: 0,
            readable: false,
            hangup: false,
            closed: false,
            starved: false,
            deadline,
            queued: false,
        }
    }

    /// Flow control, for the header of a packet that is being sent.
    pub fn credit(&mut self) -> &mut Credit {
        &mut self.credit
    }

    /// Bytes from the guest that the stream has not taken.
    pub fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// When [`Connection::expired`] has to be asked, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The guest left a question open for too long.
    pub fn expired(&self, now: Instant) -> Verdict {
        if self.deadline.is_some_and(|deadline| deadline <= now) { Verdict::Reset } else { Verdict::Keep }
    }

    /// A packet from the guest; `payload` is as long as its header says.
    pub fn guest_packet(&mut self, key: Key, header: &Header, payload: &mut Buffers<'_>) -> Verdict {
        match self.phase {
            Phase::Draining if header.op == Op::Reset => return Verdict::Keep,
            // The guest was told already.
            Phase::Draining => return Verdict::Drain,
            Phase::Dialling | Phase::Open => {}
        }
        self.credit.peer_said(header.buf_alloc, header.fwd_cnt);
        if self.credit.may_send() > 0 {
            self.starved = false;
        }
        match (self.phase, header.op) {
            (Phase::Dialling, Op::Response) => self.answered(key),
            (Phase::Dialling, Op::Reset) => Verdict::Close,
            (Phase::Open, Op::Data) => self.guest_data(payload),
            (Phase::Open, Op::CreditUpdate) => Verdict::Keep,
            (Phase::Open, Op::CreditRequest) => {
                self.due.credit_update = true;
                Verdict::Keep
            }
            (Phase::Open, Op::Shutdown) => self.guest_shutdown(header.flags),
            (Phase::Open, Op::Reset) if !self.backlog.is_empty() && !self.ends.guest_sends => {
                self.drain();
                Verdict::Keep
            }
            (Phase::Open, Op::Reset) => Verdict::Close,
            _ => Verdict::Reset,
        }
    }

    fn answered(&mut self, key: Key) -> Verdict {
        let line = handshake::accepted(key.host_port);
        // The stream is fresh: no room for one line means that nobody is there.
        match self.stream.write_bytes(line.as_bytes()) {
            Ok(count) if count == line.len() => {
                self.phase = Phase::Open;
                self.deadline = None;
                // What the client sent behind its line is there already.
                self.readable = true;
                Verdict::Keep
            }
            _ => Verdict::Reset,
        }
    }

    fn guest_data(&mut self, payload: &mut Buffers<'_>) -> Verdict {
        let Ok(length) = u32::try_from(payload.len()) else { return Verdict::Reset };
        if !self.ends.guest_sends || self.credit.received(length).is_err() {
            return Verdict::Reset;
        }
        if self.ends.host_receives && self.backlog.is_empty() && !payload.is_empty() {
            let written = self.stream.write(payload);
            let count = self.took(written);
            if payload.take_front(count).is_err() {
                return Verdict::Reset;
            }
        }
        if !self.ends.host_receives {
            self.credit.forwarded(payload.len() as u32);
            return Verdict::Keep;
        }
        self.backlog.append(payload);
        Verdict::Keep
    }

    /// Accounts for a write to the stream; answers how much it took.
    fn took(&mut self, written: io::Result<usize>) -> usize {
        match written {
            Ok(count) => {
                self.credit.forwarded(count as u32);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.host_gone();
                0
            }
        }
    }

    /// Nobody reads any more: what comes from the guest is dropped, so that it need not wait.
    fn host_gone(&mut self) {
        self.ends.host_receives = false;
        self.credit.forwarded(self.backlog.len() as u32);
        self.backlog.clear();
    }

    fn guest_shutdown(&mut self, flags: u32) -> Verdict {
        if flags & NO_RECEIVE != 0 && self.ends.guest_receives {
            self.ends.guest_receives = false;
            self.stream.shutdown(Shutdown::Read);
        }
        if flags & NO_SEND != 0 && self.ends.guest_sends {
            self.ends.guest_sends = false;
            if self.backlog.is_empty() {
                self.stream.shutdown(Shutdown::Write);
            }
        }
        match (self.ends.guest_receives || self.ends.guest_sends, self.backlog.is_empty()) {
            (true, _) => Verdict::Keep,
            (false, true) => Verdict::Reset,
            (false, false) => {
                self.drain();
                Verdict::Drain
            }
        }
    }

    /// From here on only the backlog matters.
    fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.due = Due::default();
        self.deadline = None;
    }

    /// The stream has something to read or room to write.
    pub fn host_ready(&mut self, ready: Ready) -> Verdict {
        self.readable |= ready.readable;
        self.hangup |= ready.hangup;
        self.closed |= ready.closed;
        if self.closed && !self.ends.host_sends && self.ends.host_receives {
            self.host_gone();
        }
        if ready.writable { self.flush() } else { Verdict::Keep }
    }

    fn flush(&mut self) -> Verdict {
        while !self.backlog.is_empty() {
            let written = self.backlog.write_to(&mut self.stream);
            if self.took(written) == 0 {
                break;
            }
        }
        if !self.backlog.is_empty() {
            return Verdict::Keep;
        }
        if self.phase == Phase::Draining {
            return Verdict::Close;
        }
        if !self.ends.guest_sends {
            self.stream.shutdown(Shutdown::Write);
        }
        Verdict::Keep
    }

    /// Whether [`Connection::next_packet`] is worth calling.
    pub fn wants_turn(&self) -> bool {
        match self.phase {
            Phase::Dialling => self.due.request,
            Phase::Draining => false,
            Phase::Open => {
                self.due.response
                    || self.due.credit_update
                    || self.due.credit_request
                    || self.credit.worth_announcing()
                    || self.untold() != 0
                    || self.can_read() && (self.credit.may_send() > 0 || !self.starved)
            }
        }
    }

    fn can_read(&self) -> bool {
        self.readable && self.ends.host_sends && self.ends.guest_receives
    }

    /// Shutdown flags that the guest has not been sent.
    fn untold(&self) -> u32 {
        let no_send = if self.ends.host_sends { 0 } else { NO_SEND };
        let no_receive = if self.ends.host_receives { 0 } else { NO_RECEIVE };
        (no_send | no_receive) & !self.told
    }

    /// The next packet for the guest, if there is one; payload is read into `payload`.
    pub fn next_packet(&mut self, payload: &mut Buffers<'_>, now: Instant) -> Option<Outgoing> {
        let plain = |op| Some(Outgoing { op, flags: 0, len: 0 });
        if std::mem::take(&mut self.due.request) {
            return plain(Op::Request);
        }
        if self.phase != Phase::Open {
            return None;
        }
        if std::mem::take(&mut self.due.response) {
            return plain(Op::Response);
        }
        if self.can_read()
            && let Some(outgoing) = self.read(payload)
        {
            return Some(outgoing);
        }
        let untold = self.untold();
        if untold != 0 {
            self.told |= untold;
            if self.told == NO_SEND | NO_RECEIVE {
                self.deadline = Some(now + CLOSE_TIMEOUT);
            }
            return Some(Outgoing { op: Op::Shutdown, flags: self.told, len: 0 });
        }
        if std::mem::take(&mut self.due.credit_request) {
            return plain(Op::CreditRequest);
        }
        if std::mem::take(&mut self.due.credit_update) || self.credit.worth_announcing() {
            return plain(Op::CreditUpdate);
        }
        None
    }

    fn read(&mut self, payload: &mut Buffers<'_>) -> Option<Outgoing> {
        let allowed = (self.credit.may_send() as usize).min(MAX_PAYLOAD).min(payload.len());
        if allowed == 0 {
            if self.credit.may_send() == 0 && !self.starved {
                self.starved = true;
                self.due.credit_request = true;
            }
            return None;
        }
        payload.truncate(allowed);
        match self.stream.read(payload) {
            Ok(0) => self.host_done(),
            Ok(count) => {
                // A short read means that the stream is empty, and another edge will come; not so after the last one.
                self.readable = count == allowed || self.hangup;
                self.credit.sent(count as u32);
                return Some(Outgoing { op: Op::Data, flags: 0, len: count as u32 });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(_) => {
                self.closed = true;
                self.host_done();
            }
        }
        None
    }

    fn host_done(&mut self) {
        self.ends.host_sends = false;
        self.readable = false;
        if self.closed {
            self.host_gone();
        }
    }
}

#[cfg(test)]
#[path = "connection_test.rs"]
mod tests;
