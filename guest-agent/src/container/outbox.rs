//! What happens to one container, kept for the one who follows it until they have it.
//!
//! The newest consumer gets the events: one that comes while another is there takes its place, for the other may be a
//! connection that nobody holds any more. An event leaves the outbox when its consumer asks for the next one; what the last
//! one was given and may not have had is given to the next again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use tokio_stream::Stream;

/// Events that wait. Beyond it the oldest are forgotten: a container does not wait for who hears of it.
const KEPT: usize = 4096;

/// Something that happened to a process of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Of the process; 0 for the container as a whole.
    pub pid: u32,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Init was made and waits.
    Created,
    /// Init runs.
    Started,
    /// An exec runs.
    ExecAdded,
    /// It has ended, with this status.
    Exited(u32, SystemTime),
    /// The kernel killed something for memory.
    OutOfMemory,
}

/// The outbox of a container.
#[derive(Debug, Default)]
pub struct Outbox(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Told>,
    /// Events that have left.
    left: u64,
    /// Counts consumers: the newest one's turn it is.
    turn: u64,
    consumer: Option<Waker>,
}

impl Outbox {
    /// Adds what has just happened.
    pub fn tell(&self, pid: u32, what: What) {
        let mut queue = self.queue();
        if queue.events.len() == KEPT {
            queue.pop();
        }
        queue.events.push_back(Told { pid, what });
        queue.wake();
    }

    /// Events that nobody has had, and those to come.
    pub fn follow(self: &Arc<Self>) -> Consumer {
        let mut queue = self.queue();
        queue.turn += 1;
        queue.wake();
        Consumer { outbox: Arc::clone(self), turn: queue.turn, given: None }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) {
        if self.events.pop_front().is_some() {
            self.left += 1;
        }
    }

    fn wake(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.wake();
        }
    }
}

/// Events as they come; the end when another consumer has come.
#[derive(Debug)]
pub struct Consumer {
    outbox: Arc<Outbox>,
    turn: u64,
    /// Number of the event that was given last.
    given: Option<u64>,
}

impl Stream for Consumer {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Told>> {
        let outbox = Arc::clone(&self.outbox);
        let mut queue = outbox.queue();
        if queue.turn != self.turn {
            return Poll::Ready(None);
        }
        if let Some(given) = self.given.take()
            && given == queue.left
        {
            queue.pop();
            // What sends the stream puts into one piece what it gets at once. One event a piece: no more is lost with it.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        match queue.events.front() {
            Some(event) => {
                self.given = Some(queue.left);
                Poll::Ready(Some(*event))
            }
            None => {
                queue.consumer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn pids(events: &[Told]) -> Vec<u32> {
        events.iter().map(|event| event.pid).collect()
    }

    async fn take(consumer: &mut Consumer, count: usize) -> Vec<Told> {
        consumer.take(count).collect().await
    }

    #[tokio::test]
    async fn events_wait_for_a_consumer_and_the_last_one_given_is_given_again() {
        let outbox = Arc::new(Outbox::default());
        for pid in 1..=3 {
            outbox.tell(pid, What::ExecAdded);
        }
        let mut first = outbox.follow();
        assert_eq!(pids(&take(&mut first, 2).await), [1, 2]);
        drop(first);
        let mut second = outbox.follow();
        outbox.tell(4, What::ExecAdded);
        assert_eq!(pids(&take(&mut second, 3).await), [2, 3, 4]);
    }

    #[tokio::test]
    async fn a_second_consumer_takes_the_place_of_the_first() {
        let outbox = Arc::new(Outbox::default());
        let mut first = outbox.follow();
        let waiting = tokio::spawn(async move { first.next().await });
        tokio::task::yield_now().await;
        let mut second = outbox.follow();
        assert_eq!(waiting.await.unwrap(), None);
        outbox.tell(1, What::Created);
        assert_eq!(second.next().await.map(|event| event.pid), Some(1));
    }

    #[tokio::test]
    async fn the_oldest_go_when_nobody_comes() {
        let outbox = Arc::new(Outbox::default());
        let count = KEPT as u32 + 10;
        for pid in 0..count {
            outbox.tell(pid, What::ExecAdded);
        }
        let mut consumer = outbox.follow();
        let all = take(&mut consumer, KEPT).await;
        assert_eq!((all[0].pid, all[KEPT - 1].pid), (10, count - 1));
    }

    #[tokio::test]
    async fn an_event_that_was_given_and_forgotten_takes_no_other_with_it() {
        let outbox = Arc::new(Outbox::default());
        let mut consumer = outbox.follow();
        outbox.tell(0, What::Created);
        assert_eq!(consumer.next().await.map(|event| event.pid), Some(0));
        for pid in 1..=KEPT as u32 {
            outbox.tell(pid, What::ExecAdded);
        }
        assert_eq!(consumer.next().await.map(|event| event.pid), Some(1));
    }
}
