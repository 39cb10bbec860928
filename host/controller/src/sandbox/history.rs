//! What has happened in a sandbox, in order.
//!
//! Whoever wants to know asks from where: events have numbers without gaps, the newest [`KEPT`] are kept, and asking again
//! from the same number answers the same. So a reader that was gone for a while, or got an answer and died over it, loses
//! nothing and tells what it sees twice by its number; and a slow one holds nobody up.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::id::{ContainerId, ExecId};
use crate::task::Exit;
use crate::task::rootfs::RootfsMount;
use crate::task::stdio::IoRequest;

/// Events that are kept.
pub const KEPT: usize = 4096;
/// Number of the first event.
pub const FIRST: u64 = 1;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// One more than the event's before it.
    pub sequence: u64,
    /// When the keeper saw it.
    pub at: SystemTime,
    /// To whom.
    pub subject: Subject,
    /// What.
    pub happening: Happening,
}

/// Whom an event is about.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// None: the sandbox.
    pub container: Option<ContainerId>,
    /// None: the container's init, or the container as a whole.
    pub exec: Option<ExecId>,
    /// What stands for it on the host; 0 for what has not started.
    pub pid: u32,
    /// The process in the guest; 0 for what has not started and for what is no process.
    pub guest_pid: u32,
}

/// What can happen. To a container in this order: created, started, ends of its execs, its own, deleted.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The agent answers.
    VmReady,
    /// The VM did not come up or is over. The ends of its tasks may still follow.
    VmEnded {
        /// For people to read.
        reason: String,
        /// Whether the guest powered off or somebody asked for the end.
        orderly: bool,
    },
    /// A container exists, and its init waits.
    Created(Arc<Created>),
    /// Init runs.
    Started,
    /// A process was described.
    ExecAdded,
    /// And runs.
    ExecStarted,
    /// A process has ended, and its output is written.
    Exited(Exit),
    /// The kernel killed something of the container for memory. Comes before the end of the process it was.
    OutOfMemory,
    /// The container is frozen.
    Paused,
    /// And goes on.
    Resumed,
    /// The container, or a process that was added, is gone; how it ended.
    Deleted(Exit),
}

/// What a container was made of.
#[derive(Clone, Debug, Default)]
pub struct Created {
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its root, as asked.
    pub rootfs: Vec<RootfsMount>,
    /// Its init's input and output.
    pub io: IoRequest,
}

/// Some events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The events.
    pub events: Vec<Event>,
    /// Where to go on.
    pub next: u64,
    /// Events that were asked for and are not kept any more.
    pub lost: u64,
}

/// The history of one sandbox; clones are the same one.
#[derive(Clone, Debug)]
pub struct History(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Mutex<VecDeque<Event>>,
    /// Number of the next event; 0 once there will be none.
    next: watch::Sender<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self(Arc::new(Shared { kept: Mutex::default(), next: watch::Sender::new(FIRST) }))
    }
}

impl History {
    /// Adds what has just happened.
    pub fn record(&self, subject: Subject, happening: Happening) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = kept.back().map_or(FIRST, |newest| newest.sequence + 1);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Event { sequence, at: SystemTime::now(), subject, happening });
        self.0.next.send_if_modified(|next| {
            let open = *next != 0;
            if open {
                *next = sequence + 1;
            }
            open
        });
    }

    /// Events from number `from` on, `limit` at most. Without any, waits for one until `patience` is over.
    pub async fn page(&self, from: u64, limit: usize, patience: Duration) -> Result<Page> {
        let from = from.max(FIRST);
        let mut next = self.0.next.subscribe();
        let there = timeout(patience, next.wait_for(|next| *next == 0 || *next > from)).await;
        let over = matches!(there, Ok(Ok(next)) if *next == 0);
        let page = self.read(from, limit);
        // What is left is told, then that it is over.
        if over && page.events.is_empty() { Err(Error::Gone) } else { Ok(page) }
    }

    fn read(&self, from: u64, limit: usize) -> Page {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.front().map_or(from, |oldest| oldest.sequence);
        let start = from.max(oldest);
        let skipped = usize::try_from(start - oldest).unwrap_or(usize::MAX);
        let events: Vec<_> = kept.iter().skip(skipped).take(limit).cloned().collect();
        Page { next: start + events.len() as u64, lost: start - from, events }
    }

    /// Number of the event with which `container`, as it is now, came to be; that of the next event if it is not there.
    pub fn beginning_of(&self, container: &ContainerId) -> u64 {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for event in kept.iter().rev().filter(|event| event.subject.container.as_ref() == Some(container)) {
            match event.happening {
                Happening::Created(_) => return event.sequence,
                Happening::Deleted(_) if event.subject.exec.is_none() => break,
                _ => {}
            }
        }
        kept.back().map_or(FIRST, |newest| newest.sequence + 1)
    }

    /// Nothing more will happen: whoever waits hears so.
    pub fn close(&self) {
        self.0.next.send_replace(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn filled(number: usize) -> History {
        let history = History::default();
        for _ in 0..number {
            history.record(Subject::default(), Happening::VmReady);
        }
        history
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.sequence).collect()
    }

    #[tokio::test]
    async fn whoever_asks_again_from_where_they_were_misses_nothing() {
        let history = filled(5);
        let page = history.page(0, 2, SOON).await.unwrap();
        assert_eq!((numbers(&page), page.next, page.lost), (vec![1, 2], 3, 0));
        let again = history.page(page.next, 10, SOON).await.unwrap();
        assert_eq!((numbers(&again), again.next), (vec![3, 4, 5], 6));
        assert_eq!(
            numbers(&history.page(3, 10, SOON).await.unwrap()),
            [3, 4, 5],
            "told twice if asked twice"
        );
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_has_not_happened_yet() {
        let history = filled(1);
        let waiting = tokio::spawn({
            let history = history.clone();
            async move { history.page(2, 10, SOON).await }
        });
        tokio::task::yield_now().await;
        history.record(Subject::default(), Happening::VmReady);
        assert_eq!(numbers(&waiting.await.unwrap().unwrap()), [2]);
        let nothing = history.page(3, 10, Duration::from_millis(10)).await.unwrap();
        assert_eq!((numbers(&nothing), nothing.next), (vec![], 3));
    }

    #[tokio::test]
    async fn what_is_too_old_is_counted() {
        let history = filled(KEPT + 10);
        let page = history.page(5, 1, SOON).await.unwrap();
        assert_eq!((numbers(&page), page.next, page.lost), (vec![11], 12, 6));
    }

    #[test]
    fn a_container_begins_with_its_latest_creation() {
        let history = filled(2);
        let web: ContainerId = "web".parse().unwrap();
        let tell = |happening| {
            history.record(Subject { container: Some(web.clone()), ..Subject::default() }, happening);
        };
        assert_eq!(history.beginning_of(&web), 3, "not there yet");
        tell(Happening::Created(Arc::default()));
        tell(Happening::Started);
        assert_eq!(history.beginning_of(&web), 3);
        tell(Happening::Deleted(Exit { status: 0, at: SystemTime::UNIX_EPOCH }));
        assert_eq!(history.beginning_of(&web), 6, "not any more");
        tell(Happening::Created(Arc::default()));
        assert_eq!(history.beginning_of(&web), 6);
    }

    #[tokio::test]
    async fn the_last_events_are_told_and_then_the_end() {
        let history = filled(2);
        history.close();
        assert_eq!(numbers(&history.page(1, 10, SOON).await.unwrap()), [1, 2]);
        assert!(matches!(history.page(3, 10, SOON).await, Err(Error::Gone)));
    }
}
