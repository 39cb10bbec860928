//! Several requests of one device at once, for devices whose requests wait for the host.
//!
//! There is no queue between threads. Every thread of the loop is the same: it takes a chain under the device's lock, does the
//! request without it, answers, takes the next, and goes when there is none.
//!
//! ```text
//!  kick ─▶ any thread: take ─▶ do what needs no waiting ─▶ answer, take ─▶ … ─▶ none left
//!                                │ must wait, and more is there or comes
//!                                └─▶ kick ─▶ another thread: take ─▶ …
//! ```
//!
//! So a lone request costs no hand-over, nor do any number that the page cache serves; only behind one that waits does
//! another thread go on. Answers come in the order in which requests are done.
//!
//! **Nobody starves.** Threads are as many as devices and then some, the [`Helpers`]. A device's first thread needs no permission,
//! each further one is a helper. So however many requests of however many devices never come to an end, there is a thread for
//! the first request of every other.
//!
//! What is in flight is bounded by the threads. Requests in flight may touch the same memory, even be the same chain: they are
//! system calls on guest memory, which may change at any time anyway.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Inner, Runner, Stage};
use crate::memory::GuestMemory;
use crate::virtio::queue::Taken;
use crate::virtio::{Chain, Queue, QueueError};

/// Does requests on any thread, several at once.
pub trait Requests: Send + Sync {
    /// Does the request of `chain`; answers how many bytes of it were written. Calls `waits`, once or more, before anything that
    /// may take long.
    fn perform(&self, chain: &mut Chain<'_>, waits: &mut dyn FnMut()) -> u32;
}

/// How a device's requests are served at once.
#[derive(Clone)]
pub struct Overlap {
    /// Who does them.
    pub requests: Arc<dyn Requests>,
    /// Of the loop that serves the device.
    pub helpers: Helpers,
}

/// The threads of one loop beyond one for each of its devices. Clones count the same ones.
#[derive(Clone, Debug, Default)]
pub struct Helpers {
    free: Arc<AtomicUsize>,
}

impl Helpers {
    /// This many; none makes every device serve one request after the other.
    pub fn new(count: usize) -> Self {
        Self { free: Arc::new(AtomicUsize::new(count)) }
    }

    fn any(&self) -> bool {
        self.free.load(Ordering::Relaxed) > 0
    }

    fn take(&self) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1)).is_ok()
    }

    fn give_back(&self) {
        self.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that was done: first descriptor of its chain, and bytes written.
type Done = (u16, u32);

impl Runner {
    /// What a thread does on a kick of queue `index`.
    pub(super) fn visit(&self, index: usize, overlap: &Overlap) {
        let Some(mut budget) = self.enter(index, overlap) else { return };
        let mut done = None;
        while let Some(Taken { head, mut chain }) = self.next(index, overlap, done, budget) {
            let written = overlap.requests.perform(&mut chain, &mut || self.before_waiting(index, overlap));
            done = Some((head, written));
            budget -= 1;
        }
    }

    /// Whether this thread may serve, and how many chains: a ring's worth.
    fn enter(&self, index: usize, overlap: &Overlap) -> Option<u16> {
        self.serve(|_, _| Ok(()));
        let mut inner = self.lock();
        let size = inner.queue(index)?.size();
        // Refused, the chain is not forgotten: those who are busy look for more before they go.
        if inner.busy > 0 && !overlap.helpers.take() {
            return None;
        }
        inner.busy += 1;
        Some(size)
    }

    /// Answers what was done and takes what comes next. With `None` the thread is out, by the same hold of the lock: what
    /// becomes available from then on is for whom the driver's kick wakes.
    fn next(&self, index: usize, overlap: &Overlap, done: Option<Done>, budget: u16) -> Option<Taken<'_>> {
        let mut inner = self.lock();
        match inner.advance(index, &self.memory, done, budget) {
            Ok(Some(taken)) => return Some(taken),
            Ok(None) => {}
            Err(error) => self.stop(&mut inner, &error),
        }
        inner.busy -= 1;
        if inner.busy > 0 {
            overlap.helpers.give_back();
        }
        self.left.notify_all();
        None
    }

    /// Lets another thread go on with the queue if there is one.
    fn before_waiting(&self, index: usize, overlap: &Overlap) {
        let mut inner = self.lock();
        let Some(queue) = inner.queue(index) else { return };
        let told = if overlap.helpers.any() { queue.offer_rest() } else { queue.signal() };
        if let Err(error) = told {
            self.stop(&mut inner, &error);
        }
    }
}

impl Inner {
    /// A queue that is being served. `None` after a reset, which then waits for whoever asks, or after a failure.
    fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Serving(active) => active.queue(index),
            Stage::Idle | Stage::Starting(_) | Stage::Failed => None,
        }
    }

    fn advance<'m>(
        &mut self,
        index: usize,
        memory: &'m GuestMemory,
        done: Option<Done>,
        budget: u16,
    ) -> Result<Option<Taken<'m>>, QueueError> {
        let Some(queue) = self.queue(index) else { return Ok(None) };
        if let Some((head, written)) = done {
            queue.answer(head, written)?;
        }
        if budget > 0 {
            return queue.take(memory);
        }
        queue.call_again();
        queue.signal()?;
        Ok(None)
    }
}

#[cfg(test)]
#[path = "overlap_test.rs"]
mod tests;
