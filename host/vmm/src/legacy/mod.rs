//! The few I/O ports that a kernel without PCI and ACPI still uses: one serial port to print on and two ways to reset.
//! Every other port reads as all ones and ignores what is written, without a word.

pub mod ports;
pub mod serial;

pub use ports::{Ports, Reset};
