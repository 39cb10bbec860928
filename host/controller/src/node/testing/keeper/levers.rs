//! What a test does to a keeper, and what only a machine does.

use std::time::Duration;

use super::{FakeKeeper, Happened};
use crate::id::{ContainerId, ExecId};

impl FakeKeeper {
    /// A call fails from now on.
    pub fn fails(&self, call: &'static str) {
        self.broken.lock().unwrap().insert(call);
    }

    /// No call fails any more.
    pub fn works_again(&self) {
        self.broken.lock().unwrap().clear();
    }

    /// Takes a minute where that was asked for.
    pub(super) async fn pause_for(&self, slowness: &str) {
        if self.is_broken(slowness) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    /// Whether its VM stands still.
    pub fn is_frozen(&self) -> bool {
        self.state.lock().unwrap().frozen
    }

    /// Whether its process has ended.
    pub fn is_gone(&self) -> bool {
        self.state.lock().unwrap().gone
    }

    /// Containers that it has.
    pub fn containers(&self) -> Vec<ContainerId> {
        self.state.lock().unwrap().tasks.keys().cloned().collect()
    }

    /// A container is being created, until a create or [`FakeKeeper::does_not_create`].
    pub fn is_creating(&self, id: &ContainerId) {
        self.state.lock().unwrap().coming.insert(id.clone());
    }

    /// It does not come to be.
    pub fn does_not_create(&self, id: &ContainerId) {
        self.state.lock().unwrap().coming.remove(id);
        self.next.send_modify(|_| ());
    }

    /// Waits until a container is there, or is not.
    pub(super) async fn has_come(&self, id: &ContainerId) {
        let coming = || self.state.lock().unwrap().coming.contains(id);
        let _ = self.next.subscribe().wait_for(|_| !coming()).await;
    }

    /// SIGKILL: nobody is told anything.
    pub fn die(&self) {
        self.state.lock().unwrap().gone = true;
        self.next.send_modify(|_| ());
    }

    /// The guest stops to answer.
    pub fn hang(&self) {
        self.state.lock().unwrap().silent = true;
    }

    /// The keeper takes 20 s for every answer about its events.
    pub fn get_stuck(&self) {
        self.state.lock().unwrap().stuck = true;
    }

    /// The VM ends, and with it every process.
    pub fn vm_dies(&self, reason: &str) {
        let mut state = self.state.lock().unwrap();
        state.vm_over = true;
        let reason = reason.to_owned();
        self.tell(&mut state, None, None, 0, Happened::VmEnded { reason, orderly: false });
        let ids: Vec<_> = state.tasks.keys().cloned().collect();
        for id in ids {
            self.end(&mut state, &id, None, 137);
        }
    }

    /// A process ends by itself; with init its execs do. Nothing happens to one that does not run.
    pub fn exit(&self, container: &ContainerId, exec: Option<&ExecId>, status: u32) {
        self.end(&mut self.state.lock().unwrap(), container, exec, status);
    }
}
