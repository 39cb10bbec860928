//! What happens to processes without being asked: exits and kills for memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::broadcast;

use super::outbox::{Outbox, What};
use super::{Container, Sandbox};
use crate::cgroup::Cgroup;
use crate::cgroup::events::EventFile;
use crate::process::Process;

/// Something that happened to a container.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id.
    pub container: String,
    /// What.
    pub happening: Happening,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A process has ended.
    Exit {
        /// Of the process.
        pid: u32,
        /// See [`crate::reaper::Exit`].
        status: u32,
        /// When.
        at: SystemTime,
    },
    /// The kernel killed a process for memory.
    OutOfMemory,
}

impl Sandbox {
    /// Tells of a process's end when it comes. The task ends with the process.
    pub(super) fn announce_exit(
        &self,
        process: &Process,
        container: &Arc<Container>,
        memory: Arc<MemoryWatch>,
    ) {
        let (events, container) = (self.events.clone(), Arc::clone(container));
        let (pid, mut exit) = (process.pid.as_raw() as u32, process.watch());
        let announcer = self.announcers.subscribe();
        tokio::spawn(async move {
            let _announcer = announcer;
            let exit = exit.wait().await;
            // Not before the verb that began it has told so.
            drop(container.state.lock().await);
            // Who hears of the end wants to have heard the reason.
            memory.report();
            let happening = Happening::Exit { pid, status: exit.status, at: exit.at };
            // Without a reader there is nobody to tell.
            container.outbox.tell(pid, What::Exited(exit.status, exit.at));
            let _ = events.send(Event { container: container.id.clone(), happening });
        });
    }
}

/// Tells of every kill for memory in a container.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    container: String,
    outbox: Arc<Outbox>,
    cgroup: Arc<Cgroup>,
    told: AtomicU64,
    events: broadcast::Sender<Event>,
}

impl MemoryWatch {
    pub(super) fn new(container: &Container, cgroup: Arc<Cgroup>, events: broadcast::Sender<Event>) -> Self {
        let (outbox, container) = (Arc::clone(&container.outbox), container.id.clone());
        Self { container, outbox, cgroup, told: AtomicU64::new(0), events }
    }

    /// Tells if there was one that has not been told of.
    fn report(&self) {
        let kills = self.cgroup.oom_kills().unwrap_or(0);
        if kills > self.told.fetch_max(kills, Ordering::Relaxed) {
            tracing::info!(container = self.container, "a process was killed for memory");
            self.outbox.tell(0, What::OutOfMemory);
            let _ = self
                .events
                .send(Event { container: self.container.clone(), happening: Happening::OutOfMemory });
        }
    }

    /// Watches until it is stopped.
    pub(super) async fn run(self: Arc<Self>) {
        let Ok(mut file) = EventFile::open(&self.cgroup.path().join("memory.events")) else { return };
        while file.read().is_ok() {
            self.report();
            if file.changed().await.is_err() {
                return;
            }
        }
    }
}
