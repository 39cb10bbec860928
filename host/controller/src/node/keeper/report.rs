//! What keepers tell.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::id::{ContainerId, ExecId};
use crate::node::values::{Command, Exit, Io, Payload};
use crate::sandbox::allowance::Allowance;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// It waits for its start.
    Created,
    /// It runs.
    Running,
    /// Its container is frozen.
    Paused,
    /// It has ended.
    Stopped,
}

/// A process as its keeper tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    /// `None`: the container's init.
    pub exec: Option<ExecId>,
    /// Its pid in the guest; 0 before it has started.
    pub pid: u32,
    /// Where it stands.
    pub phase: Phase,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
    /// Its input and output.
    pub io: Io,
    /// What it was asked to run.
    pub command: Command,
}

/// A sandbox as its keeper tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The keeper's process.
    pub keeper_pid: u32,
    /// The VMM's process; 0 while there is none.
    pub vmm_pid: u32,
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// What its containers may use of both.
    pub allowance: Allowance,
    /// `uname -r` in the guest; empty when the guest did not answer.
    pub kernel_release: String,
    /// The agent's version; empty when the guest did not answer.
    pub agent_version: String,
    /// Guest memory in use, in bytes.
    pub guest_used_bytes: u64,
    /// How the VM ended, if it did and nobody asked it to; with the console's last lines.
    pub vm_failure: String,
    /// The whole VM stands still.
    pub paused: bool,
    /// Containers that are there or are being created.
    pub containers: Vec<ContainerId>,
    /// Points in the start, in microseconds since the keeper began.
    pub phases: BTreeMap<String, u64>,
}

/// Counters of a container at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When they were read.
    pub at: SystemTime,
    /// `io.containerd.cgroups.v2.Metrics`.
    pub metrics: Payload,
}

/// What a sandbox uses. What cannot be told is 0 or missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// cgroup v2 files of all containers together: name to content.
    pub files: BTreeMap<String, String>,
    /// Memory in use in the guest, in bytes.
    pub guest_used_bytes: u64,
    /// Resident memory of the agent, in bytes.
    pub agent_resident_bytes: u64,
    /// Resident memory of the keeper, in bytes.
    pub keeper_resident_bytes: u64,
    /// Resident memory of the VMM, in bytes.
    pub vmm_resident_bytes: u64,
    /// Processor time of the VMM, its guest's included, in microseconds.
    pub vmm_cpu_usec: u64,
}

/// Some of a keeper's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Happening>,
    /// Where to go on.
    pub next: u64,
    /// Events that were asked for and are not kept any more.
    pub lost: u64,
}

/// Something that happened in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// One more than the one before; from 1.
    pub number: u64,
    /// `None`: the sandbox.
    pub container: Option<ContainerId>,
    /// `None`: init, or the container as a whole.
    pub exec: Option<ExecId>,
    /// In the guest; 0 for what has not started.
    pub pid: u32,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The agent answers.
    VmReady,
    /// The VM is over, or did not come up. Exits of its tasks may follow.
    VmEnded {
        /// For people, with the guest's last words.
        reason: String,
        /// The guest powered off, or somebody asked for it.
        orderly: bool,
    },
    /// A container exists.
    Created {
        /// Its bundle.
        bundle: PathBuf,
    },
    /// Its init runs.
    Started,
    /// A process was added.
    ExecAdded,
    /// And runs.
    ExecStarted,
    /// A process has ended and its output is written.
    Exited(Exit),
    /// The guest's kernel killed something of the container for memory.
    OutOfMemory,
    /// The container is frozen.
    Paused,
    /// And goes on.
    Resumed,
    /// The container, or an added process, is forgotten.
    Deleted(Exit),
}
