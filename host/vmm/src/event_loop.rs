//! One thread that waits for descriptors on behalf of devices.
//!
//! The "devices" thread runs one loop for all devices that never block; each disk has a loop of its own, because a
//! read of a file may block. Anyone may register a descriptor at any time through a [`Handle`]: epoll itself is safe
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

/// Events taken from the kernel at once.
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
    /// As long as it is readable. For eventfds, timers and listeners, which one read empties.
    Readable,
    /// Once per change in either direction: registered once, never modified, the subscriber remembers.
    Edges,
}

/// Who is told. Called on the loop's thread, one call at a time, and not while the loop is paused.
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
    /// A thread is inside [`EventLoop::run`] or [`EventLoop::turn`].
    live: bool,
    /// That thread waits here.
    parked: bool,
}

struct Shared {
    epoll: Epoll,
    wake: EventFd,
    sources: Mutex<HashMap<u64, Source>>,
    next_source: AtomicU64,
    gate: Mutex<Gate>,
    changed: Condvar,
}

/// The waiting side; whoever owns it lends it a thread.
pub struct EventLoop {
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
    /// A loop that watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        epoll.ctl(ControlOperation::Add, wake.as_raw_fd(), EpollEvent::new(EventSet::IN, WAKE))?;
        Ok(Self {
            shared: Arc::new(Shared {
                epoll,
                wake,
                sources: Mutex::new(HashMap::new()),
                next_source: AtomicU64::new(WAKE + 1),
                gate: Mutex::new(Gate { mode: Mode::Running, live: false, parked: false }),
                changed: Condvar::new(),
            }),
        })
    }

    /// A handle to register with and to control the loop.
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Serves until [`Handle::stop`]. Fails only if waiting itself fails.
    pub fn run(&self) -> io::Result<()> {
        self.shared.set_live(true);
        let result = loop {
            match self.shared.turn(-1) {
                Ok(Turn::Stopped) => break Ok(()),
                Ok(Turn::Served(_)) => {}
                Err(error) => break Err(error),
            }
        };
        self.shared.set_live(false);
        result
    }

    /// Waits at most `timeout_ms` for one batch and serves it; answers how many events there were. For callers that
    /// drive devices on their own thread.
    pub fn turn(&self, timeout_ms: i32) -> io::Result<usize> {
        self.shared.set_live(true);
        let turn = self.shared.turn(timeout_ms);
        self.shared.set_live(false);
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
    fn turn(&self, timeout_ms: i32) -> io::Result<Turn> {
        let mut events = [EpollEvent::default(); BATCH];
        let count = match self.epoll.wait(timeout_ms, &mut events) {
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
        while gate.mode == Mode::Paused {
            gate.parked = true;
            self.changed.notify_all();
            gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.parked = false;
        gate.mode != Mode::Stopped
    }

    fn set_live(&self, live: bool) {
        self.gate().live = live;
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

    /// Parks the loop between two callbacks and returns when it is parked. A loop that does not run yet parks before
    /// its first callback. Idempotent; never call it on the loop's own thread.
    pub fn pause(&self) {
        let mut gate = self.shared.set_mode(Mode::Paused);
        while gate.mode == Mode::Paused && gate.live && !gate.parked {
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
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;

    struct Counter {
        fd: EventFd,
        calls: AtomicUsize,
    }

    impl Subscriber for Counter {
        fn ready(&self, token: u64, ready: Ready) {
            assert_eq!((token, ready.readable), (7, true));
            self.fd.read().unwrap();
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter() -> (Arc<Counter>, EventFd) {
        let fd = EventFd::new(EFD_NONBLOCK).unwrap();
        (Arc::new(Counter { fd: fd.try_clone().unwrap(), calls: AtomicUsize::new(0) }), fd)
    }

    fn watch(handle: &Handle, counter: &Arc<Counter>, fd: EventFd) -> Registered<EventFd> {
        let subscriber: Weak<dyn Subscriber> = Arc::downgrade(&(counter.clone() as Arc<dyn Subscriber>));
        handle.register(fd, Interest::Readable, subscriber, 7).unwrap()
    }

    #[test]
    fn a_registered_descriptor_is_reported_until_its_registration_is_dropped() {
        let events = EventLoop::new().unwrap();
        let (counter, fd) = counter();
        let watched = watch(&events.handle(), &counter, fd);
        watched.write(1).unwrap();
        assert_eq!(events.turn(1000).unwrap(), 1);
        assert_eq!(counter.calls.load(Ordering::SeqCst), 1);
        let fd = watched.try_clone().unwrap();
        drop(watched);
        fd.write(1).unwrap();
        assert_eq!(events.turn(0).unwrap(), 0);
    }

    #[test]
    fn a_paused_loop_serves_nothing_until_it_is_resumed() {
        let events = EventLoop::new().unwrap();
        let handle = events.handle();
        let (counter, fd) = counter();
        let watched = watch(&handle, &counter, fd);
        let thread = thread::spawn(move || events.run());
        handle.pause();
        handle.pause();
        watched.write(1).unwrap();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(counter.calls.load(Ordering::SeqCst), 0);
        handle.resume();
        while counter.calls.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        handle.stop();
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn stopping_a_paused_loop_ends_its_thread() {
        let events = EventLoop::new().unwrap();
        let handle = events.handle();
        let thread = thread::spawn(move || events.run());
        handle.pause();
        handle.stop();
        handle.pause();
        thread.join().unwrap().unwrap();
    }
}
