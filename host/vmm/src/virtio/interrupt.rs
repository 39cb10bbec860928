//! The line from a device to its driver, with the reasons that the driver reads and acknowledges.
//!
//! The eventfd becomes an irqfd: an interrupt is one `write`, and KVM does the rest. Lines may be shared; each driver asks
//! its own device for the reason.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

#[derive(Debug)]
struct Shared {
    event: EventFd,
    reasons: AtomicU32,
    needs_reset: AtomicBool,
}

/// Interrupt of one device; clones are the same line.
#[derive(Clone, Debug)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

impl Interrupt {
    /// A line that nobody listens to yet.
    pub fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let (reasons, needs_reset) = (AtomicU32::new(0), AtomicBool::new(false));
        Ok(Self { shared: Arc::new(Shared { event, reasons, needs_reset }) })
    }

    /// What to give KVM as irqfd.
    pub fn event(&self) -> &EventFd {
        &self.shared.event
    }

    /// Buffers were used.
    pub fn queue(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// The configuration space changed.
    pub fn config(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// The device will do nothing more until the driver resets it (virtio 1.2, section 2.1.2).
    pub fn fail(&self) {
        self.shared.needs_reset.store(true, Ordering::Release);
        self.config();
    }

    /// Whether [`Interrupt::fail`] was called since the last reset.
    pub fn failed(&self) -> bool {
        self.shared.needs_reset.load(Ordering::Acquire)
    }

    /// Reasons not acknowledged yet, as the InterruptStatus register shows them.
    pub fn reasons(&self) -> u32 {
        self.shared.reasons.load(Ordering::Acquire)
    }

    /// The driver has seen `reasons`.
    pub fn acknowledge(&self, reasons: u32) {
        self.shared.reasons.fetch_and(!reasons, Ordering::AcqRel);
    }

    /// Back to the state after [`Interrupt::new`].
    pub fn reset(&self) {
        self.shared.reasons.store(0, Ordering::Release);
        self.shared.needs_reset.store(false, Ordering::Release);
    }

    pub(super) fn restore(&self, reasons: u32, needs_reset: bool) {
        self.shared.reasons.store(reasons, Ordering::Release);
        self.shared.needs_reset.store(needs_reset, Ordering::Release);
        if reasons != 0 {
            self.raise(reasons);
        }
    }

    fn raise(&self, reason: u32) {
        self.shared.reasons.fetch_or(reason, Ordering::AcqRel);
        // Fails only when the counter is at its maximum, and then an interrupt is pending anyway.
        let _ = self.shared.event.write(1);
    }
}
