//! The log, on standard error: systemd's journal takes it from there, with times of its own.

use std::env;
use std::io;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

/// Begins to log what `filter` lets pass.
pub fn begin(filter: &Targets) -> Result<(), TryInitError> {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    // systemd sets it for what it writes down.
    let lines = match env::var_os("JOURNAL_STREAM") {
        Some(_) => lines.without_time().boxed(),
        None => lines.boxed(),
    };
    registry().with(lines.with_filter(filter.clone())).try_init()
}
