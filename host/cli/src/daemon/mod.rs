//! thecad, where one runs, as this command reaches it: gRPC on its main socket, in today's form.

mod client;
mod error;

pub use client::Daemon;
pub use error::DaemonError;
