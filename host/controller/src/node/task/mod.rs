//! Tasks: containers that run, whichever interface made them. [`Node`](super::Node)'s calls are in `verbs`, `creating` and
//! `execs`; what is known of each is its `record`.
//!
//! ```text
//!   init:  (none) ──create──▶ Created ──start──▶ Running ⇄ Paused ──▶ Stopped ──delete──▶ (none)
//!                                └──────────────── kill ─────────────────▲
//!   exec:  (none) ───exec───▶ Created ──start──▶ Running ⇄ Paused ──▶ Stopped ──delete──▶ (none)
//! ```
//!
//! A process has a pid, the guest's, unique in its container, and an added one an exec id too; one that was added through an
//! interface that knows no exec ids gets one from the node. The keeper is the judge: calls go to it, and
//! what changes here are its events, whoever caused them; so a container that someone made at the keeper's own task API is
//! one like any other.

mod creating;
mod deleting;
mod execs;
mod listing;
mod lookup;
pub(in crate::node) mod record;
mod specification;
mod state;
mod verbs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use super::values::{Command, Exit, Io, Mount, Source};
use crate::id::{ContainerId, ExecId, SandboxId};

pub use super::keeper::Phase;
pub(super) use creating::unreadable;

/// A task to create.
#[derive(Clone, Debug)]
pub struct CreateTask {
    /// Its container.
    pub container: ContainerId,
    /// The sandbox that it joins. `None`: the one that the container's record, or the annotation `io.theca.sandbox` or
    /// `io.kubernetes.cri.sandbox-id` of its specification, names; else one of its own, with its id.
    pub sandbox: Option<SandboxId>,
    /// Where specification and root come from.
    pub source: Source,
    /// What its root is made of; empty: the bundle's own root folder.
    pub rootfs: Vec<Mount>,
    /// Its init's input and output.
    pub io: Io,
    /// Forgotten once init's exit was told: `types.API` has no Delete.
    pub delete_at_exit: bool,
}

/// A process to add.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Its id; `None`: the node makes one up.
    pub exec: Option<ExecId>,
    /// An OCI `Process` as JSON.
    pub spec: Vec<u8>,
    /// Its input and output.
    pub io: Io,
    /// Forgotten once its exit was told: `types.API` has no call that deletes it.
    pub forget: bool,
}

/// A process as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// `None`: the container's init.
    pub exec: Option<ExecId>,
    /// Its pid in the guest; 0 before it has started (init has one from Create on). Kept after its end.
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

/// A task as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its container.
    pub container: ContainerId,
    /// Where it is.
    pub sandbox: SandboxId,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its init.
    pub init: Process,
    /// When it was created.
    pub created_at: SystemTime,
    /// Labels of the container's record.
    pub labels: BTreeMap<String, String>,
}

/// Whom a signal is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One process.
    Process(super::error::ProcessName),
    /// Every process of the container.
    All,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Its pid in the guest.
    pub pid: u32,
    /// How it had ended; 137 of a task that was never started.
    pub exit: Exit,
}
