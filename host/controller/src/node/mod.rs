//! The node: every sandbox and container of one machine, behind one handle. `thecad` puts five generations of containerd's
//! API in front of it; no wire type and no transport comes in here.
//!
//! ```text
//!   API adapters ──▶ Node ─┬─▶ store       what sandboxes and containers are to be, durably
//!                          ├─▶ sandbox     one actor each ──▶ keeper::Keeper   (its own process)
//!                          ├─▶ task        one actor each ──▶   "
//!                          └─▶ events      one bus per namespace
//! ```
//!
//! The state of a sandbox lives with its keeper, which outlives this process. What the node adds — which events were told,
//! exec ids that it made up, exits that nobody fetched — is written down beside it ([`journal`]), and
//! [`recovery`] puts both together when the node begins.

pub mod error;
pub mod events;
pub mod fields;
pub mod filter;
mod journal;
pub mod keeper;
mod news;
mod private;
mod recovery;
pub mod sandbox;
mod shared;
pub mod store;
pub mod task;
mod template;
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs)]
pub mod testing;
pub mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::events::Subscription;
use self::journal::Journal;
use self::keeper::Keepers;
use self::shared::Shared;
use self::store::Store;
use self::values::Machine;
use crate::id::Namespace;

pub use self::error::{Error, Kind, ProcessName, Result};

/// The task API's generation at a sandbox's address.
pub const TASK_API: u32 = 3;

/// Bounds in time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From Start to a sandbox that takes tasks.
    pub start: Duration,
    /// Of a Stop that names none.
    pub stop: Duration,
    /// Between two looks whether a guest still answers.
    pub heartbeat: Duration,
    /// A guest that has not answered for so long is taken for hung, and ended.
    pub hung: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(150),
            stop: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            hung: Duration::from_secs(45),
        }
    }
}

/// What a node is begun with.
pub struct Setup {
    /// `/var/lib/theca`: what outlives the machine.
    pub root: PathBuf,
    /// `/run/theca`: what does not.
    pub state: PathBuf,
    /// How keepers are started and reached.
    pub keepers: Arc<dyn Keepers>,
    /// Bounds in time.
    pub limits: Limits,
}

/// The node's handle; clones are the same node.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

impl Node {
    /// Reads what was written down, finds what runs, and takes it over. Returns when every sandbox that runs is adopted and
    /// the end of every one that does not is noted. Needs a tokio runtime.
    pub async fn open(setup: Setup) -> Result<Self> {
        let store = Arc::new(Store::open(&setup.root)?);
        let journal = Journal::open(&setup.state)?;
        let node = Self { shared: Shared::new(store, journal, setup.keepers, setup.limits) };
        recovery::recover(&node).await;
        node.settle();
        Ok(node)
    }

    /// What is kept for what an earlier process had under way goes when that has had time to come back.
    fn settle(&self) {
        let (node, closing) = (self.clone(), self.shared.closing());
        self.shared.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(events::RETURN) => {
                    node.shared.bus.returned();
                    recovery::settle(&node);
                }
                () = closing => {}
            }
        });
    }

    /// Ends subscriptions and stops looking after sandboxes, which go on running.
    pub async fn close(&self) {
        self.shared.close().await;
    }

    /// What happens in `namespace` from now on; within [`events::RETURN`] of the node's begin, first what no reader may have
    /// had of what happened before.
    pub fn subscribe(&self, namespace: &Namespace) -> Subscription {
        self.shared.bus.subscribe(namespace)
    }

    /// Namespaces that have a sandbox.
    pub fn namespaces(&self) -> Vec<Namespace> {
        let mut all: Vec<_> =
            self.shared.sandboxes(None).iter().map(|handle| handle.namespace.clone()).collect();
        all.dedup();
        all
    }

    /// The machine that this is.
    pub fn machine(&self) -> Machine {
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
        let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib = total.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        Machine { cpus, memory_mib: kib.unwrap_or(0) / 1024 }
    }

    pub(in crate::node) fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }
}

#[cfg(test)]
mod kill_test;
#[cfg(test)]
mod leaving_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod recovery_test;
#[cfg(test)]
#[path = "node_test.rs"]
mod tests;
#[cfg(test)]
mod unwritten_test;
#[cfg(test)]
mod updating_test;
