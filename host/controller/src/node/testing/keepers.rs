//! Keepers that are values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::keeper::FakeKeeper;
use crate::id::{Namespace, SandboxId};
use crate::node::Kind;
use crate::node::keeper::{Answer, Keeper, KeeperError, Keepers, Launch};

type Name = (Namespace, SandboxId);

/// What runs on the machine.
#[derive(Default)]
pub struct FakeKeepers {
    running: Mutex<BTreeMap<Name, Arc<FakeKeeper>>>,
    /// Ids whose start fails, and how.
    pub broken: Mutex<BTreeSet<&'static str>>,
    /// How often nobody can be reached, for want of a descriptor.
    pub unreachable: AtomicUsize,
}

impl FakeKeepers {
    /// The keeper of a sandbox, if it runs.
    pub fn find(&self, namespace: &Namespace, id: &SandboxId) -> Option<Arc<FakeKeeper>> {
        let running = self.running.lock().unwrap();
        running.get(&(namespace.clone(), id.clone())).filter(|keeper| !keeper.is_gone()).cloned()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.lock().unwrap().values().filter(|keeper| !keeper.is_gone()).count()
    }

    /// Everything is gone, and nobody hears of it.
    pub fn forget_all(&self) {
        for keeper in std::mem::take(&mut *self.running.lock().unwrap()).into_values() {
            keeper.die();
        }
    }
}

#[async_trait]
impl Keepers for FakeKeepers {
    async fn spawn(&self, launch: Launch) -> Answer<Arc<dyn Keeper>> {
        if self.broken.lock().unwrap().contains("spawn") {
            return Err(KeeperError::Spawn("no room".into()));
        }
        let name = (launch.namespace.clone(), launch.sandbox.clone());
        if self.find(&name.0, &name.1).is_some() {
            return Err(KeeperError::Spawn("it runs already".into()));
        }
        let keeper = Arc::new(FakeKeeper::new(self.broken.lock().unwrap().clone(), launch.allowance));
        self.running.lock().unwrap().insert(name, keeper.clone());
        Ok(keeper)
    }

    async fn connect(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<Option<Arc<dyn Keeper>>> {
        if self.broken.lock().unwrap().contains("slow-connect") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let one_less = |count: usize| count.checked_sub(1);
        if self.unreachable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            let message = "Too many open files".into();
            return Err(KeeperError::Refused { kind: Kind::Unavailable, message });
        }
        Ok(self.find(namespace, sandbox).map(|keeper| keeper as Arc<dyn Keeper>))
    }

    async fn clear(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<()> {
        if self.broken.lock().unwrap().contains("clear") {
            return Err(KeeperError::Residue("a mount is busy".into()));
        }
        let left = self.running.lock().unwrap().remove(&(namespace.clone(), sandbox.clone()));
        if let Some(keeper) = left {
            keeper.die();
        }
        Ok(())
    }

    fn address(&self, _: &Namespace, sandbox: &SandboxId) -> String {
        format!("ttrpc+unix:///fake/{sandbox}")
    }

    async fn last_words(&self, _: &Namespace, _: &SandboxId) -> String {
        "Kernel panic".into()
    }
}
