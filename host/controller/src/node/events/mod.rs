//! What happens to containers, told to whoever subscribed, namespace by namespace.
//!
//! Every event has a number, one more than the one before in its namespace, and a time. Of one container they come in this
//! order: created, started, (exec added, exec started, exec exited …), exited, deleted; an init's exit comes after those of
//! its execs. Telling never waits: the newest [`RING`] are kept for those who have yet to read them, and a subscriber that
//! reads too slowly loses its own oldest events, is told how many, and goes on.
//!
//! What a reader has not taken yet is on disk too ([`tail`]): when the node's process is killed, the next one has it. For
//! [`RETURN`] after its begin every subscriber is given that first, and what has happened since.

mod bus;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::values::{Exit, Io, Mount};
use crate::id::{ContainerId, ExecId, SandboxId};

pub use self::bus::{Bus, Subscription};

/// Events that wait for one subscriber.
pub const RING: usize = 4096;
/// How long after its begin the node waits for readers to come back to it.
pub const RETURN: Duration = Duration::from_secs(60);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in its namespace, one more than the one before while somebody listens.
    pub number: u64,
    /// When the node learnt of it.
    pub at: SystemTime,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The container; `None` for events of the sandbox itself.
    pub container: Option<ContainerId>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The sandbox takes tasks.
    SandboxStarted {
        /// The process that stands for it on the host.
        pid: u32,
    },
    /// The sandbox has ended.
    SandboxExited {
        /// 0 when it was asked to, 255 when it failed.
        exit: Exit,
        /// Why, when it failed.
        reason: String,
    },
    /// The container was created.
    Created {
        /// Its init, in the guest.
        pid: u32,
        /// Its bundle.
        bundle: PathBuf,
        /// What its root is made of.
        rootfs: Vec<Mount>,
        /// Its init's input and output.
        io: Io,
    },
    /// Its init runs.
    Started {
        /// Its init, in the guest.
        pid: u32,
    },
    /// A process was added.
    ExecAdded {
        /// Which.
        exec: ExecId,
    },
    /// An added process runs.
    ExecStarted {
        /// Which.
        exec: ExecId,
        /// Its pid in the guest.
        pid: u32,
    },
    /// A process has ended.
    Exited {
        /// Which; `None` is init.
        exec: Option<ExecId>,
        /// Its pid in the guest.
        pid: u32,
        /// How.
        exit: Exit,
        /// Whether it ever ran. An added process that did not has no such event.
        started: bool,
    },
    /// A process was forgotten; with init the whole container.
    Deleted {
        /// Which; `None` is init.
        exec: Option<ExecId>,
        /// Its pid in the guest.
        pid: u32,
        /// How it had ended.
        exit: Exit,
    },
    /// The container was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// The guest's kernel has killed a process of it for memory.
    OutOfMemory,
}

/// What a subscriber reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The next event.
    Event(Arc<Event>),
    /// So many events were dropped, because this subscriber did not read them in time.
    Missed(u64),
}

impl What {
    /// Whether both tell the same of the same process, perhaps in other words: at another time, or with less known.
    pub(in crate::node) fn is_again(&self, other: &Self) -> bool {
        let process = |what: &Self| match what {
            Self::ExecAdded { exec } | Self::ExecStarted { exec, .. } => Some(exec.clone()),
            Self::Exited { exec, .. } | Self::Deleted { exec, .. } => exec.clone(),
            _ => None,
        };
        std::mem::discriminant(self) == std::mem::discriminant(other) && process(self) == process(other)
    }
}
