//! When the guest reached which point of its start.

use nix::time::{ClockId, clock_gettime};
use theca_proto::theca::agent::v1::Phase;

/// Points in time, oldest first.
pub struct Phases(Vec<Phase>);

impl Phases {
    /// Now is when the kernel has handed over.
    pub fn begin() -> Self {
        let mut phases = Self(Vec::with_capacity(8));
        phases.reached("init");
        phases
    }

    /// Now is another one.
    pub fn reached(&mut self, name: &str) {
        let at_us = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000 + now.tv_nsec().unsigned_abs() / 1000);
        self.0.push(Phase { name: name.to_owned(), at_us });
    }

    /// For the wire.
    pub fn into_wire(self) -> Vec<Phase> {
        self.0
    }
}
