//! Joins one device to one event loop: the part that is the same for all devices.
//!
//! A vCPU activates and resets, the loop serves; both meet at one mutex. The vCPU only swaps data there: what needs system
//! calls (watching descriptors, closing connections) is left to the loop, which a poke of an eventfd wakes, and done before
//! anything else is served.
//!
//! ```text
//!            activate                 settle                 error
//!  Idle ───────────────▶ Starting ───────────▶ Serving ────────────────▶ Failed
//!   ▲                       │ reset               │ reset                  │ reset
//!   └───────────────────────┴─────────────────────┴────────────────────────┘
//! ```
//!
//! After reset or failure no queue is touched: they are gone. After a reset no guest memory is either: it waits for the requests
//! being served, of which `overlap` may have several at once.

mod overlap;

pub use overlap::{Helpers, Overlap, Requests};

use std::fmt::Display;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::Watcher;
use super::{Active, DeviceError, DeviceId, Interrupt, Placement, Queue, QueueError, VirtioDevice};
use crate::event_loop::{Handle, Interest, Ready, Registered, Subscriber};
use crate::memory::GuestMemory;

/// Token of the runner's own eventfd; the others are queue numbers.
const POKE: u64 = u64::MAX;
/// Failures of one device that are told on standard error: a guest can cause any number.
const REPORTED_FAILURES: u32 = 8;

enum Stage {
    Idle,
    Starting(Active),
    Serving(Active),
    Failed,
}

struct Inner {
    device: Box<dyn VirtioDevice>,
    stage: Stage,
    /// The device has not yet heard of the latest reset.
    stale: bool,
    failures: u32,
    /// Threads that serve requests outside the lock.
    busy: usize,
}

/// A device and its kicks, shared by its transport and its event loop.
pub(super) struct Runner {
    id: DeviceId,
    inner: Mutex<Inner>,
    /// Somebody of `busy` left.
    left: Condvar,
    overlap: Option<Overlap>,
    kicks: Vec<Arc<EventFd>>,
    poke: Arc<EventFd>,
    interrupt: Interrupt,
    memory: GuestMemory,
    events: Handle,
    device_events: Arc<DeviceEvents>,
}

/// Descriptors that the device itself watches, with tokens of its own.
struct DeviceEvents(Weak<Runner>);

/// A runner that its loop knows about; dropping it takes the device out of the loop.
pub(super) struct Running {
    runner: Arc<Runner>,
    _watched: Vec<Registered<Arc<EventFd>>>,
}

impl Running {
    /// Registers the kicks of all queues; they do nothing until activation.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        interrupt: Interrupt,
        events: &Handle,
    ) -> io::Result<Self> {
        let eventfd = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Arc::new);
        let kicks = device.queue_sizes().iter().map(|_| eventfd()).collect::<io::Result<Vec<_>>>()?;
        let poke = eventfd()?;
        let runner = Arc::new_cyclic(|runner: &Weak<Runner>| Runner {
            id: device.id(),
            overlap: device.overlap(),
            inner: Mutex::new(Inner { device, stage: Stage::Idle, stale: false, failures: 0, busy: 0 }),
            left: Condvar::new(),
            kicks,
            poke,
            interrupt,
            memory,
            events: events.clone(),
            device_events: Arc::new(DeviceEvents(runner.clone())),
        });
        let subscriber: Arc<dyn Subscriber> = runner.clone();
        let watch = |(token, fd): (u64, &Arc<EventFd>)| {
            events.register(fd.clone(), Interest::Writes, Arc::downgrade(&subscriber), token)
        };
        let tokens = (0..).zip(&runner.kicks).chain([(POKE, &runner.poke)]);
        let watched = tokens.map(watch).collect::<io::Result<_>>()?;
        Ok(Self { runner, _watched: watched })
    }

    /// Hands the queues that the driver made ready to the device. `None` is a queue that it left out.
    pub fn activate(&self, placements: &[Option<Placement>], features: u64) -> Result<(), QueueError> {
        self.runner.activate(placements, features)
    }

    /// Marks the device as failed before it ran.
    pub fn refuse(&self, error: &QueueError) {
        self.runner.fail(&mut self.runner.lock(), error);
    }

    /// The driver takes everything back. When this returns nothing of the device touches guest memory.
    pub fn reset(&self) {
        let mut inner = self.runner.lock();
        inner.stage = Stage::Idle;
        inner.stale = true;
        while inner.busy > 0 {
            inner = self.runner.left.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        self.runner.poke();
    }

    /// Where the running queues stand, if there are any. Nothing may be in service.
    pub fn placements(&self) -> Option<Vec<Option<Placement>>> {
        match &self.runner.lock().stage {
            Stage::Starting(active) | Stage::Serving(active) => {
                Some(active.queues.iter().map(|queue| Some(queue.as_ref()?.placement())).collect())
            }
            Stage::Idle | Stage::Failed => None,
        }
    }

    /// Tells the device that it continues from a snapshot, and looks at all queues in case the kick was lost with it.
    pub fn restored(&self) {
        self.runner.lock().device.restored();
        (0..self.runner.kicks.len()).for_each(|index| self.kick(index));
    }

    /// What an ioeventfd does on a write to QueueNotify.
    pub fn kick(&self, index: usize) {
        if let Some(kick) = self.runner.kicks.get(index) {
            // Fails only when the counter is full, and then the kick is pending anyway.
            let _ = kick.write(1);
        }
    }

    /// Clones of the kicks of busy queues, with their numbers, for KVM.
    pub fn busy_kicks(&self) -> io::Result<Vec<(u16, EventFd)>> {
        let busy = self.runner.lock().device.busy_queues();
        let kick = |number: &u16| Some((*number, self.runner.kicks.get(usize::from(*number))?));
        busy.iter().filter_map(kick).map(|(number, kick)| Ok((number, kick.try_clone()?))).collect()
    }
}

impl Runner {
    fn activate(&self, placements: &[Option<Placement>], features: u64) -> Result<(), QueueError> {
        let mut inner = self.lock();
        let sizes = inner.device.queue_sizes();
        let mut queues = Vec::with_capacity(placements.len());
        for (number, placement) in placements.iter().enumerate() {
            let (Some(size), Some(kick)) = (sizes.get(number), self.kicks.get(number)) else { break };
            let (memory, interrupt) = (self.memory.clone(), self.interrupt.clone());
            let queue = |placement| {
                Queue::new(number as u16, *size, placement, features, memory, interrupt, kick.clone())
            };
            queues.push(placement.map(queue).transpose()?);
        }
        let subscriber: Arc<dyn Subscriber> = self.device_events.clone();
        inner.stage = Stage::Starting(Active {
            memory: self.memory.clone(),
            queues,
            features,
            watcher: Watcher { events: self.events.clone(), subscriber: Arc::downgrade(&subscriber) },
        });
        self.poke();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poke(&self) {
        // Fails only when the counter is full, and then the loop is awake anyway.
        let _ = self.poke.write(1);
    }

    fn fail(&self, inner: &mut Inner, error: &dyn Display) {
        inner.stage = Stage::Failed;
        inner.failures = inner.failures.saturating_add(1);
        if inner.failures <= REPORTED_FAILURES {
            eprintln!("theca-vmm: virtio {:?} device needs a reset: {error}", self.id);
        }
        self.interrupt.fail();
    }

    /// Settles what a vCPU left, then lets the device serve.
    fn serve(&self, what: impl FnOnce(&mut dyn VirtioDevice, &mut Active) -> Result<(), DeviceError>) {
        let mut inner = self.lock();
        let served = inner.settle().and_then(|()| match &mut *inner {
            Inner { device, stage: Stage::Serving(active), .. } => what(device.as_mut(), active),
            _ => Ok(()),
        });
        if let Err(error) = served {
            self.stop(&mut inner, &error);
        }
    }

    /// Ends the service until the next reset.
    fn stop(&self, inner: &mut Inner, error: &dyn Display) {
        inner.device.reset();
        self.fail(inner, error);
    }
}

impl Inner {
    /// Does what a vCPU left to the loop: the device's own reset, then its start.
    fn settle(&mut self) -> Result<(), DeviceError> {
        if std::mem::take(&mut self.stale) {
            self.device.reset();
        }
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Starting(mut active) => {
                let activated = self.device.activate(&mut active);
                self.stage = Stage::Serving(active);
                activated
            }
            other => {
                self.stage = other;
                Ok(())
            }
        }
    }
}

impl Subscriber for Runner {
    fn ready(&self, token: u64, _ready: Ready) {
        let index = token as usize;
        match &self.overlap {
            _ if index >= self.kicks.len() => self.serve(|_, _| Ok(())),
            None => self.serve(|device, active| device.serve(index, active)),
            Some(overlap) => self.visit(index, overlap),
        }
    }
}

impl Subscriber for DeviceEvents {
    fn ready(&self, token: u64, ready: Ready) {
        if let Some(runner) = self.0.upgrade() {
            runner.serve(|device, active| device.fd_ready(token, ready, active));
        }
    }
}
