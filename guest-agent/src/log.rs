//! The agent's own log, written to the kernel's: one place to look, bounded, and on the console when a boot fails.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Sends what is logged from now on to the kernel log. Without one, nothing is logged.
pub fn to_kernel() {
    if let Ok(kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // It can only have been set before.
        let _ = tracing::subscriber::set_global_default(KernelLog { kmsg: Mutex::new(kmsg) });
    }
}

struct KernelLog {
    kmsg: Mutex<File>,
}

impl Subscriber for KernelLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries' spans and events are of no interest here.
        metadata.is_event() && *metadata.level() <= Level::INFO && metadata.target().starts_with("theca")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            _ => 6,
        };
        let mut line = Line(format!("<{priority}>theca-agent:"));
        event.record(&mut line);
        line.0.push('\n');
        // Nothing can be done about a log that cannot be written.
        if let Ok(mut kmsg) = self.kmsg.lock() {
            let _ = kmsg.write_all(line.0.as_bytes());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message first, then `name=value` for each field.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let _ = write!(self.0, " {}={value}", field.name());
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(self.0, ": {error}");
            cause = error.source();
        }
    }
}
