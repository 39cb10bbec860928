//! virtio 1.2 devices over MMIO.
//!
//! ```text
//!   vCPU ── read/write ──▶ transport ── activate, reset ──▶ runner ◀── kicks, sockets ── event loop
//!                            │ registers: pure                │
//!                            │                                ▼
//!                            └── ConfigSpace ◀────────── VirtioDevice ──▶ Queue::handle(|chain| …)
//! ```
//!
//! - [`transport`]: the registers a driver sees and the state machine behind them; queue registers freeze at activation.
//! - `runner`: joins one device to one event loop; everything that all devices do alike. Its `overlap` serves several requests at
//!   once, for disks.
//! - [`device`]: the trait. A device is its features, its configuration space and its requests, nothing else.
//! - [`queue`], [`buffers`]: rings turned into requests, with every bound that a hostile driver must meet.
//! - [`blk`], [`vsock`], [`rng`], [`console`], [`balloon`]: the devices.
//!
//! What a guest does wrong ends its request, its connection or its device (`DEVICE_NEEDS_RESET`), never a neighbour.

pub mod balloon;
pub mod blk;
pub mod buffers;
mod config_space;
pub mod console;
pub mod device;
mod interrupt;
pub mod queue;
pub mod rng;
mod runner;
pub mod state;
#[cfg(test)]
mod testing;
pub mod transport;
pub mod vsock;

pub use buffers::{Buffers, ShortBuffers};
pub use config_space::ConfigSpace;
pub use device::{Active, DeviceError, DeviceId, VirtioDevice};
pub use interrupt::Interrupt;
pub use queue::{Chain, Placement, Queue, QueueError, Served};
pub use runner::{Helpers, Overlap, Requests};
pub use state::{DeviceState, RestoreError};
pub use transport::MmioTransport;
