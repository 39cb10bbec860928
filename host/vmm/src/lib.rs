//! The library behind the `theca-vmm` program; see `main.rs` for the order of things.

pub mod arch;
pub mod boot;
pub mod console_log;
pub mod control;
pub mod event_loop;
pub mod jail;
pub mod kvm;
pub mod legacy;
pub mod machine;
pub mod memory;
pub mod mmio;
pub mod snapshot;
pub mod sys;
pub mod vcpu;
pub mod virtio;

// The driver for tests is also part of the integration tests, where the crate has this name.
#[cfg(test)]
extern crate self as theca_vmm;
