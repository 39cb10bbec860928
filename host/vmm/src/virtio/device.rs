//! What makes a device: the trait, and what it is given while a driver runs it.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Weak;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids;

use super::{ConfigSpace, Overlap, Queue, QueueError};
use crate::event_loop::{Handle, Interest, Ready, Registered, Subscriber};
use crate::memory::GuestMemory;

/// Device types by their number in virtio 1.2, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum DeviceId {
    /// A disk.
    Block = virtio_ids::VIRTIO_ID_BLOCK,
    /// A terminal.
    Console = virtio_ids::VIRTIO_ID_CONSOLE,
    /// A source of entropy.
    Rng = virtio_ids::VIRTIO_ID_RNG,
    /// Free pages given back.
    Balloon = virtio_ids::VIRTIO_ID_BALLOON,
    /// Sockets.
    Vsock = virtio_ids::VIRTIO_ID_VSOCK,
}

/// Why a device stopped until its next reset.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The driver broke a queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The driver broke a rule of this device that has no answer of its own.
    #[error("{0}")]
    Protocol(&'static str),
    /// The host would not.
    #[error("{action}: {source}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A device: what it offers, and how it serves. All calls but the constant ones come from its event loop's thread.
pub trait VirtioDevice: Send {
    /// Its type.
    fn id(&self) -> DeviceId;

    /// Feature bits of this type; the transport adds those of every device.
    fn features(&self) -> u64;

    /// Entries that each of its queues can have, powers of two.
    fn queue_sizes(&self) -> &'static [u16];

    /// Queues that are kicked often. The others get no ioeventfd, which costs KVM a grace period each when the VM is built:
    /// their kicks come as exits.
    fn busy_queues(&self) -> &'static [u16];

    /// Its configuration space; always the same one.
    fn config(&self) -> ConfigSpace;

    /// A driver took over; called before anything is served.
    fn activate(&mut self, _active: &mut Active) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The driver kicked queue `index`. Not called if there is an [`overlap`](Self::overlap).
    fn serve(&mut self, _index: usize, _active: &mut Active) -> Result<(), DeviceError> {
        Ok(())
    }

    /// For a device whose requests may take long: who serves them instead, several at once. Always the same.
    fn overlap(&self) -> Option<Overlap> {
        None
    }

    /// A descriptor that the device watches is ready.
    fn fd_ready(&mut self, _token: u64, _ready: Ready, _active: &mut Active) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The driver let go: forget everything about it. Idempotent.
    fn reset(&mut self) {}

    /// A snapshot was restored, and what the driver knows of the outside is no longer true.
    fn restored(&mut self) {}
}

/// A device's share of the machine between activation and reset.
pub struct Active {
    /// Guest RAM.
    pub memory: GuestMemory,
    /// One per entry of [`VirtioDevice::queue_sizes`]; `None` for one that the driver left out.
    pub queues: Vec<Option<Queue>>,
    /// Feature bits that both sides agreed on.
    pub features: u64,
    pub(super) watcher: Watcher,
}

/// Lets a device watch descriptors; it hears of them by [`VirtioDevice::fd_ready`].
#[derive(Clone)]
pub struct Watcher {
    pub(super) events: Handle,
    pub(super) subscriber: Weak<dyn Subscriber>,
}

impl Active {
    /// Queue `index`, unless the driver left it out.
    pub fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        self.queues.get_mut(index)?.as_mut()
    }

    /// For watching descriptors while a queue is being handled.
    pub fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }

    /// As [`Watcher::watch`].
    pub fn watch<F: AsRawFd>(&self, fd: F, interest: Interest, token: u64) -> io::Result<Registered<F>> {
        self.watcher.watch(fd, interest, token)
    }
}

impl Watcher {
    /// Watches a descriptor until the result is dropped; `token` comes with its events.
    pub fn watch<F: AsRawFd>(&self, fd: F, interest: Interest, token: u64) -> io::Result<Registered<F>> {
        self.events.register(fd, interest, self.subscriber.clone(), token)
    }
}
