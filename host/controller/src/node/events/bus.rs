//! Who reads which namespace's events, and how far everyone has got.
//!
//! Readers of a namespace share one queue, in which each has its place. An event is *taken* by a reader when its connection
//! has asked for the next one and [`SETTLE`] has passed, or twice that while it asks for more and more: until then it may still
//! lie with this process, and would be lost with it. What a reader has not taken stays in the [`Tail`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::tail::{self, Commit, LastTold, Tail, Taken};
use super::{Event, RING, Told, What};
use crate::id::{ContainerId, Namespace, SandboxId};

/// How long an event that was given to a connection may take to leave this process.
const SETTLE: Duration = Duration::from_millis(20);

/// All namespaces' events; clones are the same bus.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Namespaces that somebody reads, or of which something is kept for who comes back.
    topics: HashMap<Namespace, Topic>,
    /// What an earlier process has left undone is being found out: it is kept for whoever comes.
    recovering: bool,
    /// Readers may come back, for whom what is known of here is kept.
    returning: bool,
    closed: bool,
    folder: Option<PathBuf>,
    last_told: HashMap<(Namespace, SandboxId), LastTold>,
}

#[derive(Debug)]
struct Topic {
    last: u64,
    /// The newest events.
    events: VecDeque<Arc<Event>>,
    /// How many readers have taken everything up to which event.
    places: BTreeMap<u64, usize>,
    /// Readers of an earlier process that have not come back yet.
    awaited: usize,
    /// What is written down of readers.
    marked: Taken,
    tail: Option<Tail>,
    news: watch::Sender<()>,
}

/// One reader of events. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    bus: Bus,
    namespace: Namespace,
    /// The number of the event to be given next.
    at: u64,
    /// Up to where everything was taken.
    taken: u64,
    /// Up to where everything was given, and the next one asked for, at that moment.
    leaving: Option<(u64, Instant)>,
    news: watch::Receiver<()>,
}

impl Bus {
    /// The bus of a node whose process begins, with what an earlier one has left in `folder`. What is told until
    /// [`Bus::recovered`] is kept for everyone who subscribes until [`Bus::returned`], and so is all that happens in a namespace
    /// of which something is kept or that had readers.
    pub(in crate::node) fn open(folder: &Path) -> Self {
        let folder_of_all = Some(folder.to_owned());
        let mut state =
            State { recovering: true, returning: true, folder: folder_of_all, ..State::default() };
        for (namespace, left) in tail::left(folder) {
            let topic = state.topic(&namespace);
            topic.last = left.last;
            topic.events = left.events.into_iter().map(Arc::new).collect();
            (topic.awaited, topic.marked) = (left.taken.readers, left.taken);
            topic.tail = Some(Tail::new(folder, &namespace, left.lines));
            let told = left.last_told.into_iter();
            state.last_told.extend(told.map(|(sandbox, last)| ((namespace.clone(), sandbox), last)));
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// What the earlier process had told of a sandbox with its last change, of which it may have written down nothing else.
    pub(in crate::node) fn last_told(&self, namespace: &Namespace, sandbox: &SandboxId) -> Option<LastTold> {
        self.lock().last_told.remove(&(namespace.clone(), sandbox.clone()))
    }

    /// Tells an event. Never waits.
    pub fn tell(
        &self,
        namespace: &Namespace,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
        what: What,
    ) {
        self.tell_all(namespace, sandbox, None, std::iter::once((container.cloned(), what)));
    }

    /// Tells what has followed from one change, all or nothing of which is there for the next process.
    pub(in crate::node) fn tell_all(
        &self,
        namespace: &Namespace,
        sandbox: &SandboxId,
        commit: Option<Commit>,
        told: impl Iterator<Item = (Option<ContainerId>, What)>,
    ) {
        let mut state = self.lock();
        if !state.recovering && !state.topics.contains_key(namespace) {
            return;
        }
        let topic = state.topic(namespace);
        let at = SystemTime::now();
        let events: Vec<_> = (topic.last + 1..)
            .zip(told)
            .map(|(number, (container, what))| {
                Arc::new(Event { number, at, sandbox: sandbox.clone(), container, what })
            })
            .collect();
        let Some(last) = events.last() else { return };
        topic.last = last.number;
        if let Some(tail) = &mut topic.tail {
            tail.tell(commit, &events);
        }
        topic.events.extend(events);
        let spare = topic.events.len().saturating_sub(RING);
        topic.events.drain(..spare);
        topic.renew_if_long();
        topic.news.send_replace(());
    }

    /// Events of `namespace` from now on; before them, while readers may come back, those that are kept for them.
    pub fn subscribe(&self, namespace: &Namespace) -> Subscription {
        let mut state = self.lock();
        let returning = state.returning;
        let topic = state.topic(namespace);
        let at = if returning { topic.first() } else { topic.last + 1 };
        topic.awaited = topic.awaited.saturating_sub(1);
        *topic.places.entry(at - 1).or_default() += 1;
        topic.mark();
        let news = topic.news.subscribe();
        let (bus, namespace) = (self.clone(), namespace.clone());
        Subscription { bus, namespace, at, taken: at - 1, leaving: None, news }
    }

    /// What an earlier process has left undone is known and told.
    pub(in crate::node) fn recovered(&self) {
        self.lock().recovering = false;
    }

    /// Who wanted to come back has: from here on, what nobody reads is forgotten.
    pub(in crate::node) fn returned(&self) {
        let mut state = self.lock();
        (state.recovering, state.returning) = (false, false);
        state.last_told.clear();
        state.topics.retain(|_, topic| {
            topic.awaited = 0;
            topic.mark();
            topic.trim()
        });
    }

    /// Every subscription ends, once everything was taken that was told.
    pub(in crate::node) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for topic in state.topics.values() {
            topic.news.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is killed: nothing is written down any more.
    #[cfg(any(test, feature = "testing"))]
    pub(in crate::node) fn kill(&self) {
        let mut state = self.lock();
        *state = State { closed: true, ..State::default() };
    }

    /// How many namespaces something is kept of.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().topics.len()
    }
}

impl State {
    fn topic(&mut self, namespace: &Namespace) -> &mut Topic {
        let folder = self.folder.as_deref();
        self.topics.entry(namespace.clone()).or_insert_with(|| Topic {
            last: 0,
            events: VecDeque::new(),
            places: BTreeMap::new(),
            awaited: 0,
            marked: Taken::default(),
            tail: folder.map(|folder| Tail::new(folder, namespace, 0)),
            news: watch::Sender::new(()),
        })
    }
}

impl Topic {
    /// The number of the oldest event that is here.
    fn first(&self) -> u64 {
        self.last + 1 - self.events.len() as u64
    }

    /// A reader has got from one place to another, or has gone.
    fn moved(&mut self, from: u64, to: Option<u64>) {
        if let Some(count) = self.places.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&from);
            }
        }
        if let Some(to) = to {
            *self.places.entry(to).or_default() += 1;
        }
    }

    /// Writes down where the last of all readers is, those included that have yet to come back. When there are none, it is
    /// where it was.
    fn mark(&mut self) {
        let slowest = self.places.keys().next().copied().filter(|_| self.awaited == 0);
        let taken = Taken {
            number: slowest.unwrap_or(self.marked.number),
            readers: self.places.values().sum::<usize>() + self.awaited,
        };
        if taken == self.marked {
            return;
        }
        self.marked = taken;
        if let Some(tail) = &mut self.tail {
            tail.mark(taken);
        }
        self.renew_if_long();
    }

    /// Forgets what every reader has taken, when nobody is waited for. False if nobody reads at all.
    fn trim(&mut self) -> bool {
        let Some(slowest) = self.places.keys().next().copied() else {
            if let Some(tail) = &mut self.tail {
                tail.remove();
            }
            return false;
        };
        while self.events.front().is_some_and(|event| event.number <= slowest) {
            self.events.pop_front();
        }
        true
    }

    fn renew_if_long(&mut self) {
        if self.tail.as_ref().is_some_and(Tail::is_long) {
            self.renew();
        }
    }

    fn renew(&mut self) {
        let taken = self.marked;
        if let Some(tail) = &mut self.tail {
            tail.renew(self.events.iter().filter(|event| event.number > taken.number), taken);
        }
    }
}

impl Subscription {
    /// The next one; `None` when the node has closed and everything was taken. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            self.news.borrow_and_update();
            if let Some(over) = self.look() {
                return over;
            }
            // The topic is there as long as this is.
            match self.leaving.map(|(_, since)| since + SETTLE) {
                None => self.news.changed().await.ok()?,
                Some(settled) => tokio::select! {
                    changed = self.news.changed() => changed.ok()?,
                    () = sleep_until(settled) => {}
                },
            }
        }
    }

    /// What is there without waiting.
    fn look(&mut self) -> Option<Option<Told>> {
        let bus = self.bus.clone();
        let mut state = bus.lock();
        let (returning, closed) = (state.returning, state.closed);
        let Some(topic) = state.topics.get_mut(&self.namespace) else { return Some(None) };
        if let Some((number, _)) = self.leaving.take_if(|(_, since)| since.elapsed() >= SETTLE) {
            topic.moved(self.taken, Some(number));
            self.taken = number;
            topic.mark();
            if !returning {
                topic.trim();
            }
        }
        if self.leaving.is_none() && self.taken + 1 < self.at {
            self.leaving = Some((self.at - 1, Instant::now()));
        }
        let first = topic.first();
        if self.at < first {
            let missed = first - self.at;
            self.at = first;
            return Some(Some(Told::Missed(missed)));
        }
        let event = usize::try_from(self.at - first).ok().and_then(|place| topic.events.get(place));
        if let Some(event) = event {
            self.at += 1;
            return Some(Some(Told::Event(event.clone())));
        }
        (closed && self.leaving.is_none()).then_some(None)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.bus.lock();
        if state.closed {
            // It did not go: this process does, and it may come back to the next.
            return;
        }
        let returning = state.returning;
        let Some(topic) = state.topics.get_mut(&self.namespace) else { return };
        topic.moved(self.taken, None);
        topic.mark();
        if !returning && !topic.trim() {
            state.topics.remove(&self.namespace);
        }
    }
}

#[cfg(test)]
#[path = "bus_test.rs"]
mod tests;
