//! What happens to containers, told to whoever subscribed, namespace by namespace.
//!
//! Every event has a number, one more than the one before in its namespace, and a time. Of one container they come in this
//! order: created, started, (exec added, exec started, exec exited …), exited, deleted; an init's exit comes after those of
//! its execs. Telling never waits: each subscriber has a ring of its own, and one that reads too slowly loses its own oldest
//! events, is told how many, and goes on.
//!
//! What recovery finds out when the node begins happened while nobody could subscribe; it is kept for the first subscriber
//! of its namespace.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::values::{Exit, Io, Mount};
use crate::id::{ContainerId, ExecId, Namespace, SandboxId};

/// Events that wait for one subscriber.
pub const RING: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in its namespace, from 1. It starts again with the node's process.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// All namespaces' events; clones are the same bus.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    namespaces: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Namespace, Topic>,
    /// Recovery is over: from here on, what nobody reads is forgotten.
    recovered: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Topic {
    last: u64,
    subscribers: Vec<Weak<Ring>>,
    /// Of recovery, until the first subscriber.
    unclaimed: VecDeque<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Ring {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    missed: u64,
    closed: bool,
}

/// One reader of events. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    ring: Arc<Ring>,
}

impl Bus {
    /// Tells an event. Never waits.
    pub fn tell(
        &self,
        namespace: &Namespace,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
        what: What,
    ) {
        let mut state = lock(&self.namespaces);
        let recovered = state.recovered;
        let topic = state.topics.entry(namespace.clone()).or_default();
        topic.last += 1;
        let event = Arc::new(Event {
            number: topic.last,
            at: SystemTime::now(),
            sandbox: sandbox.clone(),
            container: container.cloned(),
            what,
        });
        topic.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(ring) => {
                ring.push(event.clone());
                true
            }
            None => false,
        });
        if topic.subscribers.is_empty() && !recovered {
            topic.unclaimed.push_back(event);
            if topic.unclaimed.len() > RING {
                topic.unclaimed.pop_front();
            }
        }
    }

    /// Whether somebody listens in `namespace`.
    pub fn is_watched(&self, namespace: &Namespace) -> bool {
        let state = lock(&self.namespaces);
        let topic = state.topics.get(namespace);
        topic.is_some_and(|topic| topic.subscribers.iter().any(|ring| ring.strong_count() > 0))
    }

    /// Events of `namespace` from now on, after those of recovery if nobody has had them yet.
    pub fn subscribe(&self, namespace: &Namespace) -> Subscription {
        let mut state = lock(&self.namespaces);
        let closed = state.closed;
        let topic = state.topics.entry(namespace.clone()).or_default();
        let ring = Arc::new(Ring::default());
        {
            let mut queue = lock(&ring.queue);
            queue.events = std::mem::take(&mut topic.unclaimed);
            queue.closed = closed;
        }
        topic.subscribers.push(Arc::downgrade(&ring));
        Subscription { ring }
    }

    /// From here on, what nobody reads is forgotten.
    pub(super) fn recovered(&self) {
        lock(&self.namespaces).recovered = true;
    }

    /// Every subscription ends, once what is in its ring was read.
    pub(super) fn close(&self) {
        let mut state = lock(&self.namespaces);
        state.closed = true;
        for ring in state.topics.values().flat_map(|topic| &topic.subscribers).filter_map(Weak::upgrade) {
            lock(&ring.queue).closed = true;
            ring.news.notify_one();
        }
    }
}

impl Ring {
    fn push(&self, event: Arc<Event>) {
        let mut queue = lock(&self.queue);
        if queue.events.len() == RING {
            queue.events.pop_front();
            queue.missed += 1;
        }
        queue.events.push_back(event);
        self.news.notify_one();
    }
}

impl Subscription {
    /// The next one; `None` when the node has closed. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            {
                let mut queue = lock(&self.ring.queue);
                if queue.missed > 0 {
                    return Some(Told::Missed(std::mem::take(&mut queue.missed)));
                }
                if let Some(event) = queue.events.pop_front() {
                    return Some(Told::Event(event));
                }
                if queue.closed {
                    return None;
                }
            }
            self.ring.news.notified().await;
        }
    }
}

/// Nothing that holds these locks can leave them half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
