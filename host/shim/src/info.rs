//! What this runtime is, for containerd and for people.

use std::io::{self, Write};

use anyhow::Context;
use prost::Message;
use theca_proto::containerd::types::{RuntimeInfo, RuntimeVersion};

/// The name under which containerd looks for this program.
const RUNTIME: &str = "io.containerd.theca.v2";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the runtime's description as a protobuf message.
pub fn run() -> anyhow::Result<()> {
    let version = RuntimeVersion { version: VERSION.into(), revision: String::new() };
    let info = RuntimeInfo { name: RUNTIME.into(), version: Some(version), ..RuntimeInfo::default() };
    io::stdout().write_all(&info.encode_to_vec()).context("failed to print the runtime's description")
}

/// Prints the version in words.
pub fn version() -> anyhow::Result<()> {
    writeln!(io::stdout(), "containerd-shim-theca-v2 {VERSION}").context("failed to print the version")
}
