//! The library behind the `theca-vmm` program; see `main.rs` for the order of things.

pub mod console_log;
pub mod memory;
