//! Containers and processes of a keeper that is a value.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::id::ExecId;
use crate::node::keeper::{Phase, ProcessReport};
use crate::node::values::{Command, Exit, Io};
use crate::task::state as table;

pub struct Task {
    pub init: Proc,
    pub execs: BTreeMap<ExecId, Proc>,
}

#[derive(Clone)]
pub struct Proc {
    pub pid: u32,
    pub phase: table::Phase,
    pub exit: Option<Exit>,
    pub io: Io,
    pub args: Vec<String>,
    pub forget: bool,
    /// When it is forgotten.
    pub gone_at: Option<Instant>,
}

impl Proc {
    pub fn new(pid: u32, phase: table::Phase, io: Io) -> Self {
        Self { pid, phase, exit: None, io, args: vec!["sh".into()], forget: false, gone_at: None }
    }

    /// One that runs what `spec` says.
    pub fn added(spec: &[u8], io: Io) -> Self {
        let spec: serde_json::Value = serde_json::from_slice(spec).unwrap_or_default();
        let args = serde_json::from_value(spec["args"].clone()).unwrap_or_default();
        Self { args, ..Self::new(0, table::Phase::Added, io) }
    }

    pub fn report(&self, exec: Option<ExecId>) -> ProcessReport {
        let phase = match self.phase {
            table::Phase::Added | table::Phase::Starting | table::Phase::Created => Phase::Created,
            table::Phase::Running => Phase::Running,
            table::Phase::Paused => Phase::Paused,
            table::Phase::Stopped => Phase::Stopped,
        };
        let command = Command { args: self.args.clone(), ..Command::default() };
        ProcessReport { exec, pid: self.pid, phase, exit: self.exit, io: self.io.clone(), command }
    }
}
