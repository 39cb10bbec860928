//! The control socket: requests of the keeper, events for it.
//!
//! One thread, the main one, reads and writes the socket. Other threads leave what they have to say in the [`Outbox`].
//!
//! ```text
//!  Empty ──Configure──▶ Built ──Start──▶ Running ◀─Resume/Pause─▶ Paused
//! ```

mod config;
mod large_pages;
mod outbox;
mod policy;
mod service;

pub use config::{ConfigError, Descriptors, MachineConfig, VsockConfig};
pub use outbox::Outbox;
pub use service::Service;
