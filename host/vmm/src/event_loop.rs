//! Threads that wait for descriptors on behalf of devices.
//!
//! The "devices" thread runs one loop for all devices that never block. Disks, whose files may block, share a loop of several
//! threads: each takes one event, serves it to its end, however long that takes, and comes back. Anyone may register a descriptor at any time through a [`Handle`]: epoll itself is safe
//! to change while another thread waits in it, so a device needs no message to its loop to watch one descriptor more.
//!
//! ```text
//!  vCPU ── write ──▶ eventfd ─┐
//!  peer ── data ───▶ socket ──┼─▶ epoll ─▶ gate ─▶ Subscriber::ready(token)
//!  timer ─────────▶ timerfd ──┘             │
//!  control thread: pause / resume / stop ───┘
//! ```
//!
//! The loop holds subscribers weakly: a device that goes away takes its registrations with it.

use std::collections::HashMap;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Events that a loop's only thread takes from the kernel at once. One of several takes a single event, for it may be away long.
const BATCH: usize = 32;
/// Source number of the loop's own eventfd.
const WAKE: u64 = 0;

/// What happened to a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read, or the end of the stream.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer will send no more.
    pub hangup: bool,
    /// The peer is gone altogether, or the descriptor failed.
    pub closed: bool,
}

/// When a descriptor is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// As long as it is readable, which several threads may be told at once. For timers and listeners, which one read empties.
    Readable,
    /// Once per change in either direction: registered once, never modified, the subscriber remembers.
    Edges,
    /// An eventfd is written to, which nobody needs to read. Writes in quick succession may be told once, after the last.
    Writes,
}

/// Who is told. Called on the loop's threads, by each one call at a time, and not while the loop is paused.
pub trait Subscriber: Send + Sync {
    /// `token` is what the subscriber chose when it registered.
    fn ready(&self, token: u64, ready: Ready);
}

struct Source {
    subscriber: Weak<dyn Subscriber>,
    token: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Paused,
    Stopped,
}

struct Gate {
    mode: Mode,
    /// Threads inside [`EventLoop::run`] or [`EventLoop::turn`].
    live: usize,
    /// Those of them that wait here.
    parked: usize,
}

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    sources: Mutex<HashMap<u64, Source>>,
    next_source: AtomicU64,
    gate: Mutex<Gate>,
    changed: Condvar,
}

/// The waiting side; whoever owns it lends it threads.
pub struct EventLoop {
    threads: usize,
    shared: Arc<Shared>,
}

/// The registering and controlling side.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// A descriptor together with its registration, which ends first when this is dropped.
pub struct Registered<F> {
    // Fields are dropped in this order.
    registration: Registration,
    fd: F,
}

struct Registration {
    source: u64,
    /// Open as long as this exists: it is the descriptor next to it.
    fd: RawFd,
    shared: Arc<Shared>,
}

impl EventLoop {
    /// A loop for one thread that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        Self::for_threads(1)
    }

    /// The same for several threads.
    pub fn for_threads(threads: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), EpollEvent::new(EventSet::IN, WAKE))?;
        Ok(Self {
            threads,
            shared: Arc::new(Shared {
                epoll,
                wake,
                sources: Mutex::new(HashMap::new()),
                next_source: AtomicU64::new(WAKE + 1),
                gate: Mutex::new(Gate { mode: Mode::Running, live: 0, parked: 0 }),
                changed: Condvar::new(),
            }),
        })
    }

    /// How many threads are to [`run`](Self::run) it.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A handle to register with and to control the loop.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Serves until [`Handle::stop`]; called on each of its threads. Fails only if waiting itself fails.
    pub fn run(&self) -> io::Result<()> {
        let batch = if self.threads > 1 { 1 } else { BATCH };
        self.shared.change_live(|live| live + 1);
        let result = loop {
            match self.shared.turn(-1, batch) {
                Ok(Turn::Stopped) => break Ok(()),
                Ok(Turn::Served(_)) => {}
                Err(error) => break Err(error),
            }
        };
        self.shared.change_live(|live| live - 1);
        result
    }

    /// Waits at most `timeout_ms` for one batch and serves it; answers how many events there were. For callers that
    /// drive devices on their own thread.
    pub fn turn(&self, timeout_ms: i32) -> io::Result<usize> {
        self.shared.change_live(|live| live + 1);
        let turn = self.shared.turn(timeout_ms, BATCH);
        self.shared.change_live(|live| live - 1);
        match turn? {
            Turn::Served(count) => Ok(count),
            Turn::Stopped => Ok(0),
        }
    }
}

enum Turn {
    Served(usize),
    Stopped,
}

impl Shared {
    fn turn(&self, timeout_ms: i32, batch: usize) -> io::Result<Turn> {
        // Also before waiting: this thread may have emptied the eventfd that was to wake it.
        if !self.pass_gate() {
            return Ok(Turn::Stopped);
        }
        let mut events = [EpollEvent::default(); BATCH];
        let count = match self.epoll.wait(timeout_ms, &mut events[..batch]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        for event in &events[..count] {
            if !self.pass_gate() {
                return Ok(Turn::Stopped);
            }
            self.dispatch(event);
        }
        Ok(Turn::Served(count))
    }

    fn dispatch(&self, event: &EpollEvent) {
        if event.data() == WAKE {
            // Only ever wakes; the gate has been looked at. `WouldBlock` means that somebody else emptied it.
            let _ = self.wake.read();
            return;
        }
        // A source that went away earlier in this batch is simply no longer there.
        let Some((subscriber, token)) = self
            .sources()
            .get(&event.data())
            .and_then(|source| Some((source.subscriber.upgrade()?, source.token)))
        else {
            return;
        };
        let set = event.event_set();
        subscriber.ready(
            token,
            Ready {
                readable: set
                    .intersects(EventSet::IN | EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR),
                writable: set.intersects(EventSet::OUT | EventSet::HANG_UP | EventSet::ERROR),
                hangup: set.intersects(EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR),
                closed: set.intersects(EventSet::HANG_UP | EventSet::ERROR),
            },
        );
    }

    /// Waits while paused; false means stop.
    fn pass_gate(&self) -> bool {
        let mut gate = self.gate();
        if gate.mode != Mode::Running {
            // One thread wakes the next. Fails only when the counter is full, and then it is awake anyway.
            let _ = self.wake.write(1);
        }
        if gate.mode == Mode::Paused {
            gate.parked += 1;
            self.changed.notify_all();
            while gate.mode == Mode::Paused {
                gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
            }
            gate.parked -= 1;
        }
        gate.mode != Mode::Stopped
    }

    fn change_live(&self, change: impl FnOnce(usize) -> usize) {
        let mut gate = self.gate();
        gate.live = change(gate.live);
        self.changed.notify_all();
    }

    fn set_mode(&self, mode: Mode) -> MutexGuard<'_, Gate> {
        let mut gate = self.gate();
        if gate.mode != Mode::Stopped {
            gate.mode = mode;
        }
        self.changed.notify_all();
        // Fails only when the counter is full, and then the loop is awake anyway.
        let _ = self.wake.write(1);
        gate
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<u64, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    /// Watches `fd` until the result is dropped.
    pub fn register<F: AsRawFd>(
        &self,
        fd: F,
        interest: Interest,
        subscriber: Weak<dyn Subscriber>,
        token: u64,
    ) -> io::Result<Registered<F>> {
        let source = self.shared.next_source.fetch_add(1, Ordering::Relaxed);
        let events = match interest {
            Interest::Readable => EventSet::IN,
            Interest::Writes => EventSet::IN | EventSet::EDGE_TRIGGERED,
            Interest::Edges => {
                EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED
            }
        };
        self.shared.sources().insert(source, Source { subscriber, token });
        let added =
            self.shared.epoll.ctl(ControlOperation::Add, fd.as_raw_fd(), EpollEvent::new(events, source));
        if let Err(error) = added {
            self.shared.sources().remove(&source);
            return Err(error);
        }
        let registration = Registration { source, fd: fd.as_raw_fd(), shared: self.shared.clone() };
        Ok(Registered { registration, fd })
    }

    /// Parks each of the loop's threads between two callbacks and returns when all are parked. One that does not run yet parks
    /// before its first callback. Idempotent; never call it on a thread of the loop.
    pub fn pause(&self) {
        let mut gate = self.shared.set_mode(Mode::Paused);
        while gate.mode == Mode::Paused && gate.parked < gate.live {
            gate = self.shared.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Continues after [`Handle::pause`]. Idempotent.
    pub fn resume(&self) {
        drop(self.shared.set_mode(Mode::Running));
    }

    /// Makes [`EventLoop::run`] return, for good.
    pub fn stop(&self) {
        drop(self.shared.set_mode(Mode::Stopped));
    }
}

impl<F> Registered<F> {
    /// Ends the registration and gives the descriptor back.
    pub fn into_inner(self) -> F {
        let Self { registration, fd } = self;
        drop(registration);
        fd
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.sources().remove(&self.source);
        // Failing would leave a source that nobody knows, whose events are ignored.
        let _ = self.shared.epoll.ctl(ControlOperation::Delete, self.fd, EpollEvent::default());
    }
}

impl<F> Deref for Registered<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.fd
    }
}

impl<F> DerefMut for Registered<F> {
    fn deref_mut(&mut self) -> &mut F {
        &mut self.fd
    }
}

#[cfg(test)]
#[path = "event_loop_test.rs"]
mod tests;
