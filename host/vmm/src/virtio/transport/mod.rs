//! How a driver finds and runs a device: virtio 1.2 over MMIO (section 4.2), version 2 only.
//!
//! `registers` is the register file and its state machine, pure and testable alone; `mmio` carries out what a write asks for.

mod mmio;
mod registers;

pub use mmio::MmioTransport;
pub use registers::{Effect, Registers};
