//! What a story's end looks like: from the model, and from every interface.

use std::collections::BTreeMap;

use theca_controller::node::task::Phase;
use theca_proto::containerd::v1::Status as Wire2016;
use theca_proto::containerd::v1::types::Status as Wire;

/// A process as it shows: its pid, 0 before its start, and where it stands.
type Shown = (u32, Phase);

/// What there is, as the interfaces show it.
#[derive(Debug, Default, PartialEq)]
pub struct View {
    pub sandboxes: BTreeMap<String, String>,
    /// Thousandths of a processor, of those that are limited and have a keeper to ask.
    pub limits: BTreeMap<String, u64>,
    /// Names of records in the store.
    pub records: Vec<String>,
    /// By Tasks: init, and the others without an order.
    pub containers: BTreeMap<String, (Phase, Vec<Shown>)>,
    pub of_2016: BTreeMap<String, Wire2016>,
    pub of_2015: BTreeMap<String, String>,
}

impl View {
    pub fn add(&mut self, id: &str, init: Phase, mut execs: Vec<Shown>) {
        execs.sort_by_key(|(pid, phase)| (*pid, format!("{phase:?}")));
        self.containers.insert(id.to_owned(), (init, execs));
        let (of_2016, of_2015) = match init {
            Phase::Created => (Wire2016::Created, "stopped"),
            Phase::Running => (Wire2016::Running, "running"),
            Phase::Paused => (Wire2016::Paused, "paused"),
            Phase::Stopped => (Wire2016::Stopped, "stopped"),
        };
        self.of_2016.insert(id.to_owned(), of_2016);
        self.of_2015.insert(id.to_owned(), of_2015.to_owned());
    }
}

/// Where a process stands, by Tasks.
pub fn phase(status: Wire) -> Phase {
    match status {
        Wire::Created => Phase::Created,
        Wire::Running => Phase::Running,
        Wire::Paused | Wire::Pausing => Phase::Paused,
        Wire::Stopped => Phase::Stopped,
        Wire::Unknown => panic!("a process whose status is not known"),
    }
}
