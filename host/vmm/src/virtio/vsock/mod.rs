//! virtio-vsock (virtio 1.2, section 5.10) in the hybrid model: guest ports are reached over Unix sockets.
//!
//! ```text
//!  program ── CONNECT 1024\n ──▶ listener ─▶ unix (handshakes) ─▶ muxer ─▶ connection ─▶ RX queue ─▶ guest
//!  keeper ◀── Event::Connect ◀── dial(port, socket) ◀────────────┘ ▲
//!                                                                  └──── TX queue ◀─ guest
//! ```
//!
//! - `packet`, `credit`, `handshake`: pure decoding and arithmetic.
//! - `connection`: one connection's state machine. `muxer`: all of them. Neither knows sockets or queues.
//! - `unix`: sockets. This file: the device that joins them to queues and to the event loop.
//!
//! All of it runs on the devices' thread and nothing in it blocks. After a snapshot is restored the guest is told that its
//! connections are gone (a transport reset event): their other ends live in another process.

mod backlog;
mod connection;
mod credit;
#[cfg(test)]
mod fake;
mod handshake;
mod muxer;
mod packet;
mod unix;

pub use connection::{CLOSE_TIMEOUT, Connection, DIAL_TIMEOUT, Key, MAX_PAYLOAD, Outgoing, Stream, Verdict};
pub use handshake::{Line, parse as parse_handshake};
pub use muxer::{Counters, DialError, MAX_CONNECTIONS, MAX_RESETS, Muxer};
pub use packet::{HEADER, HOST_CID, Header, NO_RECEIVE, NO_SEND, Op, TYPE_STREAM};
pub use unix::{HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::timerfd::TimerFd;

use self::unix::Handshakes;
use super::{Active, ConfigSpace, DeviceError, DeviceId, Served, VirtioDevice};
use crate::event_loop::{Interest, Ready, Registered};

/// Entries of the queues. Linux fills the receive queue with a page per entry as soon as it finds the device: 64 are the
/// 256 KiB that it also lets one connection send ahead.
const QUEUE_SIZES: [u16; 3] = [64, 128, 8];
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENTS: usize = 2;
/// The event that all connections are gone (section 5.10.6.7).
const TRANSPORT_RESET: [u8; 4] = [0; 4];
/// How often deadlines are looked at while there are any.
const TICK: Duration = Duration::from_secs(1);

/// Tells the keeper that the guest dialled a port; gets the other end. Must not block.
pub type Dial = Box<dyn Fn(u32, OwnedFd) + Send>;

/// What the device is made from.
pub struct Config {
    /// The guest's context id, 3 or more.
    pub guest_cid: u64,
    /// A listening Unix stream socket.
    pub listener: OwnedFd,
    /// Host ports that the guest may dial.
    pub host_ports: Vec<u32>,
    /// Hears of dials.
    pub dial: Dial,
}

/// The device.
pub struct Vsock {
    config: ConfigSpace,
    listener: Arc<UnixListener>,
    listening: Option<Registered<Arc<UnixListener>>>,
    timer: Timer,
    dial: Dial,
    handshakes: Handshakes,
    muxer: Muxer<Registered<UnixStream>>,
    reset_event_due: bool,
}

/// Wakes the device for deadlines, and only while there are any: an idle VM wakes nobody.
enum Timer {
    Unwatched(TimerFd),
    Watched { fd: Registered<TimerFd>, armed: bool },
    Gone,
}

/// Numbers under which the device watches its descriptors. Connections use their ports; no host port is `u32::MAX`.
enum Token {
    Listener,
    Timer,
    Handshake(u64),
    Connection(Key),
}

impl Token {
    const OTHERS: u64 = (u32::MAX as u64) << 32;

    fn encode(&self) -> u64 {
        match self {
            Self::Listener => Self::OTHERS,
            Self::Timer => Self::OTHERS | 1,
            // 2^32 handshakes of one VM are out of reach; were they not, one would be refused for an old number.
            Self::Handshake(number) => Self::OTHERS | (number + 1) & 0xffff_ffff,
            Self::Connection(key) => u64::from(key.host_port) << 32 | u64::from(key.guest_port),
        }
    }

    fn decode(token: u64) -> Self {
        match token.checked_sub(Self::OTHERS) {
            Some(0) => Self::Listener,
            Some(1) => Self::Timer,
            Some(other) => Self::Handshake(other - 1),
            None => Self::Connection(Key { host_port: (token >> 32) as u32, guest_port: token as u32 }),
        }
    }
}

impl Vsock {
    /// A device without connections. Programs that connect before the guest's driver is there wait in the listener.
    pub fn new(config: Config) -> io::Result<Self> {
        let listener = UnixListener::from(config.listener);
        listener.set_nonblocking(true)?;
        let mut host_ports = config.host_ports;
        host_ports.retain(|port| *port != u32::MAX);
        Ok(Self {
            config: ConfigSpace::new(config.guest_cid.to_le_bytes()),
            listener: Arc::new(listener),
            listening: None,
            timer: Timer::Unwatched(TimerFd::new().map_err(io::Error::from)?),
            dial: config.dial,
            handshakes: Handshakes::default(),
            muxer: Muxer::new(config.guest_cid, host_ports),
            reset_event_due: false,
        })
    }

    /// Payload bytes moved so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.muxer.counters().clone()
    }

    /// Packets from the guest.
    fn transmit(&mut self, active: &mut Active) -> Result<(), DeviceError> {
        let Self { muxer, dial, .. } = self;
        let watcher = active.watcher();
        let Some(queue) = active.queue(TRANSMIT) else { return Ok(()) };
        queue.handle(|chain| {
            let mut header = [0; HEADER];
            // Half a header is nobody's packet.
            if chain.readable.read(&mut header).is_ok() {
                muxer.guest_packet(&Header::decode(&header), &mut chain.readable, |key| {
                    let (ours, theirs) = UnixStream::pair()?;
                    ours.set_nonblocking(true)?;
                    let ours = watcher.watch(ours, Interest::Edges, Token::Connection(key).encode())?;
                    dial(key.host_port, theirs.into());
                    Ok(ours)
                });
            }
            Ok(Served::Used(0))
        })
    }

    /// Packets to the guest, as many as there are buffers for.
    fn receive(&mut self, active: &mut Active) -> Result<(), DeviceError> {
        if !self.muxer.has_packets() {
            return Ok(());
        }
        let now = Instant::now();
        let Some(queue) = active.queue(RECEIVE) else { return Ok(()) };
        queue.handle(|chain| {
            let Ok(mut payload) = chain.writable.split_off(HEADER) else {
                return Err(DeviceError::Protocol("vsock receive buffer is shorter than a packet header"));
            };
            let Some(header) = self.muxer.next_packet(&mut payload, now) else { return Ok(Served::Later) };
            // Exactly the header's length is left.
            let _ = chain.writable.write(&header.encode());
            Ok(Served::Used(HEADER as u32 + header.len))
        })
    }

    fn announce_reset(&mut self, active: &mut Active) -> Result<(), DeviceError> {
        let Self { reset_event_due, .. } = self;
        if !*reset_event_due {
            return Ok(());
        }
        let Some(queue) = active.queue(EVENTS) else { return Ok(()) };
        queue.handle(|chain| {
            if !std::mem::take(reset_event_due) {
                return Ok(Served::Later);
            }
            match chain.writable.write(&TRANSPORT_RESET) {
                Ok(()) => Ok(Served::Used(TRANSPORT_RESET.len() as u32)),
                Err(_) => Err(DeviceError::Protocol("vsock event buffer is shorter than an event")),
            }
        })
    }

    /// Takes in programs that connected to the Unix socket, a limited number at a time.
    fn accept(&mut self, active: &Active) {
        for _ in 0..MAX_HANDSHAKES {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Out of descriptors: the listener would be reported for ever. The next tick tries again.
                Err(_) => {
                    self.listening = None;
                    break;
                }
            };
            // Too many at once: closed, the program may try again.
            let Some(number) = self.handshakes.reserve() else { continue };
            let token = Token::Handshake(number).encode();
            let watched =
                stream.set_nonblocking(true).and_then(|()| active.watch(stream, Interest::Edges, token));
            if let Ok(stream) = watched {
                self.handshakes.insert(number, stream, Instant::now());
            }
        }
    }

    fn handshake(&mut self, number: u64, ready: Ready, active: &Active) {
        if let Some((stream, port)) = self.handshakes.ready(number, ready) {
            // A refusal closes the stream, which is what the program sees of it.
            let _ = self.muxer.dial(port, Instant::now(), |key| {
                active.watch(stream, Interest::Edges, Token::Connection(key).encode())
            });
        }
    }

    fn listen(&mut self, active: &Active) -> Result<(), DeviceError> {
        let listening = active.watch(self.listener.clone(), Interest::Readable, Token::Listener.encode());
        let failed = |source| DeviceError::Host { action: "failed to watch the vsock listener", source };
        self.listening = Some(listening.map_err(failed)?);
        Ok(())
    }

    fn tick(&mut self, active: &Active) -> Result<(), DeviceError> {
        if self.listening.is_none() {
            self.listen(active)?;
        }
        let now = Instant::now();
        self.timer.ticked();
        self.muxer.expire(now);
        self.handshakes.expire(now);
        Ok(())
    }

    /// What every event may have made possible: packets for the guest, and a timer that is needed or no more.
    fn settle(&mut self, active: &mut Active) -> Result<(), DeviceError> {
        self.receive(active)?;
        let needed = self.muxer.has_deadlines() || !self.handshakes.is_empty() || self.listening.is_none();
        self.timer.set(needed).map_err(|source| DeviceError::Host { action: "failed to set a timer", source })
    }
}

impl VirtioDevice for Vsock {
    fn id(&self) -> DeviceId {
        DeviceId::Vsock
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &QUEUE_SIZES
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[RECEIVE as u16, TRANSMIT as u16]
    }

    fn config(&self) -> ConfigSpace {
        self.config.clone()
    }

    fn activate(&mut self, active: &mut Active) -> Result<(), DeviceError> {
        self.listen(active)?;
        let failed = |source| DeviceError::Host { action: "failed to watch the vsock timer", source };
        self.timer.watch(active).map_err(failed)?;
        self.announce_reset(active)
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        match index {
            TRANSMIT => self.transmit(active)?,
            EVENTS => self.announce_reset(active)?,
            _ => {}
        }
        self.settle(active)
    }

    fn fd_ready(&mut self, token: u64, ready: Ready, active: &mut Active) -> Result<(), DeviceError> {
        match Token::decode(token) {
            Token::Listener => self.accept(active),
            Token::Timer => self.tick(active)?,
            Token::Handshake(number) => self.handshake(number, ready, active),
            Token::Connection(key) => self.muxer.host_ready(key, ready),
        }
        self.settle(active)
    }

    fn reset(&mut self) {
        self.listening = None;
        self.handshakes.clear();
        self.muxer.clear();
        // A timer that cannot be disarmed ticks once and finds nothing to do.
        let _ = self.timer.set(false);
    }

    fn restored(&mut self) {
        self.reset_event_due = true;
    }
}

impl Timer {
    fn watch(&mut self, active: &Active) -> io::Result<()> {
        *self = match std::mem::replace(self, Self::Gone) {
            Self::Unwatched(fd) => {
                let fd = active.watch(fd, Interest::Readable, Token::Timer.encode())?;
                Self::Watched { fd, armed: false }
            }
            other => other,
        };
        Ok(())
    }

    fn set(&mut self, needed: bool) -> io::Result<()> {
        let Self::Watched { fd, armed } = self else { return Ok(()) };
        if *armed != needed {
            // Setting also forgets expirations, so a disarmed timer is not readable.
            if needed { fd.reset(TICK, None) } else { fd.clear() }.map_err(io::Error::from)?;
            *armed = needed;
        }
        Ok(())
    }

    /// Forgets the expiration. Not by reading: this event may be older than the last setting, and a read would wait.
    fn ticked(&mut self) {
        // Failing leaves the timer readable, so that the next event tries again.
        let _ = self.set(false);
    }
}

#[cfg(test)]
#[path = "vsock_test.rs"]
mod tests;
