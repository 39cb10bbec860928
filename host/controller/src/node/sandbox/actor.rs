//! The task that begins and ends one sandbox. Between the two it follows the keeper's events and sees that the guest still
//! answers. A Stop with much patience, during which no request is read, is cut short by
//! [`Handle::interrupt`](super::handle::Handle::interrupt); a start hears of everything that is asked meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::{debug, warn};

use super::Standing;
use super::handle::{Handle, Request};
use crate::node::Node;
use crate::node::keeper::{Keeper, KeeperError};
use crate::node::recovery;

/// How long one question for events waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a keeper that refused, or was not reached, is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// Requests that may wait for the actor.
pub const QUEUE: usize = 32;

/// What happens to a sandbox that nobody asked for.
pub enum Event {
    /// Its keeper is gone.
    KeeperGone,
    /// The keeper of a sandbox that was taken over was reached, or is known to be gone.
    Found(Option<Arc<dyn Keeper>>),
    /// Whether the guest answers.
    Heartbeat(bool),
}

/// The owner of a sandbox.
pub struct Actor {
    pub node: Node,
    pub handle: Arc<Handle>,
    pub inbox: mpsc::Receiver<Request>,
    /// What was asked during a start and is to be done after it.
    pub later: Option<Request>,
    pub events: JoinSet<Event>,
    answered: Instant,
    /// Something of it could not be removed: it is tried again when somebody asks for the end.
    pub untidy: bool,
    /// Held while counters are read.
    measuring: Arc<Mutex<()>>,
}

impl Actor {
    /// The owner of `handle`, whose requests come through `inbox`.
    pub fn new(node: Node, handle: Arc<Handle>, inbox: mpsc::Receiver<Request>) -> Self {
        Self {
            node,
            handle,
            inbox,
            later: None,
            events: JoinSet::new(),
            answered: Instant::now(),
            untidy: false,
            measuring: Arc::default(),
        }
    }

    /// Serves until the sandbox is forgotten, or the node closes.
    pub async fn run(mut self) {
        let closing = self.node.shared.closing();
        tokio::pin!(closing);
        let beat = self.node.shared.limits.heartbeat;
        let mut beat = interval_at(Instant::now() + beat, beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(request) = self.later.take() {
                if self.serve(request).await {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = &mut closing => return,
                Some(Ok(event)) = self.events.join_next() => self.happened(event).await,
                () = self.handle.vm_over.notified() => self.vm_over().await,
                _ = beat.tick() => self.beat(),
                request = self.inbox.recv() => match request {
                    None => return,
                    Some(request) => if self.serve(request).await { return },
                },
            }
        }
    }

    /// Whether the sandbox is forgotten.
    async fn serve(&mut self, request: Request) -> bool {
        match request {
            Request::Start(reply) => self.start(reply).await,
            Request::Stop(grace, reply) => {
                let stopped = self.stop(grace).await;
                self.handle.has_time();
                let _ = reply.send(stopped);
                false
            }
            Request::Shutdown(grace, reply) => {
                let stopped = self.stop(grace).await;
                self.handle.has_time();
                let over = stopped.is_ok();
                if over {
                    self.forget();
                }
                let _ = reply.send(stopped);
                over
            }
        }
    }

    async fn happened(&mut self, event: Event) {
        match event {
            Event::KeeperGone => self.keeper_gone().await,
            Event::Found(keeper) => recovery::found(self, keeper).await,
            Event::Heartbeat(true) => {
                self.answered = Instant::now();
                self.measure();
            }
            Event::Heartbeat(false) => {
                let silent = self.answered.elapsed();
                if silent >= self.node.shared.limits.hung && self.standing() == Standing::Ready {
                    warn!(sandbox = %self.handle.id, ?silent, "the guest hangs and is ended");
                    let reason = format!("the guest has not answered for {} s", silent.as_secs());
                    self.failed(reason).await;
                }
            }
        }
    }

    /// Where the sandbox stands.
    pub fn standing(&self) -> Standing {
        self.handle.mirror().entry.standing
    }

    /// Follows a keeper, from what was taken already.
    pub fn follow(&mut self, keeper: Arc<dyn Keeper>) {
        self.answered = Instant::now();
        let (node, handle) = (self.node.clone(), self.handle.clone());
        self.events.spawn(async move { follow(&node, &handle, &keeper).await });
    }

    /// Looks for the keeper until it is reached, or known to be gone.
    pub fn search(&mut self) {
        let (node, handle) = (self.node.clone(), self.handle.clone());
        self.events.spawn(async move {
            loop {
                sleep(AGAIN).await;
                match node.shared.keepers.connect(&handle.namespace, &handle.id).await {
                    Ok(keeper) => return Event::Found(keeper),
                    Err(error) => debug!(sandbox = %handle.id, %error, "the keeper cannot be reached yet"),
                }
            }
        });
    }

    fn beat(&mut self) {
        let keeper = self.handle.keeper().filter(|_| self.standing() == Standing::Ready);
        let Some(keeper) = keeper else {
            self.answered = Instant::now();
            return;
        };
        if self.handle.mirror().entry.pid == 0 {
            // Its VM boots with its task; until then there is no guest.
            self.answered = Instant::now();
            return;
        }
        self.events.spawn(async move {
            match keeper.ping().await {
                // It may just be frozen, or thawing.
                Ok(()) | Err(KeeperError::Refused { kind: crate::node::Kind::FailedPrecondition, .. }) => {
                    Event::Heartbeat(true)
                }
                Err(_) => Event::Heartbeat(false),
            }
        });
    }

    /// Reads the counters of its containers that run, one after the other, without waiting for it: whenever all of this ends,
    /// somebody may ask what it had used. A call to the guest and a document of the journal for each.
    fn measure(&self) {
        let Ok(turn) = self.measuring.clone().try_lock_owned() else { return };
        let containers: Vec<_> = {
            let mut mirror = self.handle.mirror();
            let all: Vec<_> = mirror.tasks.keys().cloned().collect();
            all.into_iter().filter(|container| mirror.wants_sample(container, false)).collect()
        };
        let (node, handle) = (self.node.clone(), self.handle.clone());
        self.node.shared.spawn(async move {
            for container in containers {
                node.measure(&handle, &container).await;
            }
            drop(turn);
        });
    }

    /// Nobody can find it from here on.
    pub fn forget(&mut self) {
        self.node.forget_sandbox(&self.handle);
        self.inbox.close();
    }
}

/// Until the keeper is gone.
async fn follow(node: &Node, handle: &Arc<Handle>, keeper: &Arc<dyn Keeper>) -> Event {
    loop {
        let from = handle.mirror().entry.cursor;
        match keeper.events(from, PATIENCE).await {
            Ok(page) => {
                if node.take(handle, page).look {
                    node.look(handle, keeper).await;
                }
            }
            Err(error) if error.is_gone() => return Event::KeeperGone,
            Err(error) => {
                debug!(sandbox = %handle.id, %error, "the keeper does not tell its events");
                sleep(AGAIN).await;
            }
        }
    }
}
