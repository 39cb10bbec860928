//! A device as plain data, for snapshots.
//!
//! A snapshot is input like any other: whoever can write the file must gain no more than a guest has anyway. So nothing
//! here is believed until [`super::MmioTransport::restore`] has held it against the device that was built, and RAM.

use serde::{Deserialize, Serialize};

use super::{DeviceId, Placement, QueueError};

/// Everything about one device that its driver could tell apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceState {
    /// Its type.
    pub id: DeviceId,
    /// The status register.
    pub status: u32,
    /// Whether DEVICE_NEEDS_RESET is set.
    pub needs_reset: bool,
    /// What the driver accepted.
    pub driver_features: u64,
    /// Selected feature word of the device, of the driver, and queue.
    pub selectors: [u32; 3],
    /// InterruptStatus.
    pub interrupt_reasons: u32,
    /// ConfigGeneration.
    pub config_generation: u32,
    /// The configuration space: a disk's capacity, a socket device's context id.
    pub config: Vec<u8>,
    /// One per queue of the device.
    pub queues: Vec<QueueState>,
}

/// One queue, running or still being set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// QueueReady.
    pub ready: bool,
    /// Entries.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub available: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
    /// Next entry of the available ring to serve.
    pub next_available: u16,
    /// Next entry of the used ring to fill.
    pub next_used: u16,
}

/// Why a saved device was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot has another device in this place.
    #[error("saved state of a {saved:?} device given to a {built:?} device")]
    OtherDevice {
        /// In the snapshot.
        saved: DeviceId,
        /// In this VM.
        built: DeviceId,
    },
    /// Features that this device does not offer.
    #[error("saved features {saved:#x} are not among the offered {offered:#x}")]
    Features {
        /// In the snapshot.
        saved: u64,
        /// By this device.
        offered: u64,
    },
    /// A combination of status bits that no driver can reach.
    #[error("saved status {0:#x} is impossible")]
    Status(u32),
    /// Another number of queues, or one of an impossible size.
    #[error("saved queues do not fit the device")]
    Queues,
    /// What the driver read of the device is not what it would read now.
    #[error("saved configuration space differs from the device's")]
    Config,
    /// A running queue that cannot run.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The host would not.
    #[error("failed to set up the device: {0}")]
    Host(#[from] std::io::Error),
}

impl QueueState {
    pub(super) fn new(ready: bool, placement: Placement) -> Self {
        let Placement { size, descriptors, available, used, next_available, next_used } = placement;
        Self { ready, size, descriptors, available, used, next_available, next_used }
    }

    pub(super) fn placement(&self) -> Placement {
        let Self { size, descriptors, available, used, next_available, next_used, .. } = *self;
        Placement { size, descriptors, available, used, next_available, next_used }
    }
}
