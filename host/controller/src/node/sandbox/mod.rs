//! Sandboxes as the node runs them. [`Node`](super::Node)'s calls are in `verbs`; one task (`actor`) owns each sandbox.
//!
//! ```text
//!            create              start: keeper and VM are up
//!   (none) ────────▶ Created ──────────────────────────────▶ Ready ⇄ Paused
//!                       │                                      │       │   stop; the keeper, the VM or the guest fails
//!                       │ stop                                 ▼       ▼
//!                       └──────────────────────────────────▶ Stopped ─────▶ (forgotten)
//!                                                                    shutdown
//! ```
//!
//! A create or start that fails leaves nothing: the id is free again. A start that nobody waits for any longer is undone. A sandbox
//! that has stopped keeps how it ended, for any number of waiters, until it is shut down.

pub(in crate::node) mod actor;
mod ending;
mod fresh;
pub(in crate::node) use ending::FAILED;
pub(in crate::node) mod handle;
mod kernel_args;
pub(in crate::node) mod mirror;
mod pausing;
mod starting;
mod status;
mod updating;
mod verbs;

pub use updating::{Resize, Wish};

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::keeper::Sample;
use super::values::{Exit, Payload};
use crate::id::{ContainerId, SandboxId};
use crate::sandbox::allowance::Allowance;
use crate::sandbox::options::{DEFAULT_MEMORY_MIB, DEFAULT_VCPUS};

/// How large a sandbox is. Asked for with 0: the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// What its containers may use of both.
    #[serde(default)]
    pub allowance: Allowance,
}

impl Resources {
    /// The size that this means.
    pub fn resolved(self) -> Self {
        Self {
            vcpus: if self.vcpus == 0 { DEFAULT_VCPUS } else { self.vcpus },
            memory_mib: if self.memory_mib == 0 { DEFAULT_MEMORY_MIB } else { self.memory_mib },
            ..self
        }
    }
}

/// A sandbox to create.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSandbox {
    /// Its id, unique in its namespace.
    pub id: SandboxId,
    /// How large it is.
    pub resources: Resources,
    /// Words that are added to the guest kernel's command line.
    pub kernel_args: Vec<String>,
    /// Answered by Start and kept for lists.
    pub labels: BTreeMap<String, String>,
    /// Kept, and shown by a verbose Status.
    pub annotations: BTreeMap<String, String>,
    /// A network namespace; empty for none. Kept, and shown by a verbose Status.
    pub netns_path: String,
    /// What came with it: kept beside it, as the store does.
    pub extensions: BTreeMap<String, Payload>,
}

/// A sandbox that takes tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The process that stands for it on the host.
    pub pid: u32,
    /// When it was created.
    pub created_at: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where its task API is: `ttrpc+unix://` and a path.
    pub address: String,
    /// The task API's generation: [`super::TASK_API`].
    pub version: u32,
}

/// Where a sandbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Standing {
    /// It was created and not started.
    Created,
    /// It takes tasks.
    Ready,
    /// Its VM stands still.
    Paused,
    /// It has ended.
    Stopped,
}

/// A sandbox as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxStatus {
    /// Its id.
    pub id: SandboxId,
    /// Where it stands.
    pub standing: Standing,
    /// The process that stands for it on the host; 0 while there is none.
    pub pid: u32,
    /// When it was created.
    pub created_at: SystemTime,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Why, when it failed: sentences with the guest's last words.
    pub reason: String,
    /// Where its task API is, while it is ready or paused; else empty.
    pub address: String,
    /// The task API's generation.
    pub version: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How large it is.
    pub resources: Resources,
    /// Containers in it.
    pub containers: Vec<ContainerId>,
    /// Whether the node made it for one container.
    pub own_of_container: bool,
    /// When asked for: facts for people, as JSON or plain text by name.
    pub info: BTreeMap<String, String>,
}

/// Counters of a sandbox at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxMetrics {
    /// When they were read.
    pub at: SystemTime,
    /// Each container's, those that have ended included until they are deleted.
    pub containers: Vec<(ContainerId, Sample)>,
    /// Resident memory of the VMM on the host, in bytes: what the sandbox costs.
    pub vmm_resident_bytes: u64,
    /// Processor time of the VMM on the host, in microseconds, its guest's included.
    pub vmm_cpu_usec: u64,
    /// Resident memory of the keeper on the host, in bytes.
    pub keeper_resident_bytes: u64,
    /// Memory in use in the guest, in bytes.
    pub guest_used_bytes: u64,
    /// Resident memory of the agent in the guest, in bytes.
    pub agent_resident_bytes: u64,
    /// cgroup v2 files of all containers together: name to content.
    pub files: BTreeMap<String, String>,
    /// How large it is.
    pub resources: Resources,
}

/// What to change of a sandbox; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UpdateSandbox {
    /// Labels, all of them.
    pub labels: Option<BTreeMap<String, String>>,
    /// Labels that it gets beside those.
    pub more_labels: BTreeMap<String, String>,
    /// Annotations that it gets beside those that it has.
    pub more_annotations: BTreeMap<String, String>,
    /// Extensions, all of them.
    pub extensions: Option<BTreeMap<String, Payload>>,
    /// Its size.
    pub resources: Option<Resize>,
    /// Words for the guest's kernel, all of them. Those of one that runs cannot change.
    pub kernel_args: Option<Vec<String>>,
}
