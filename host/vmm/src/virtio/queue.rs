//! A running virtqueue as devices see it: a stream of chains, each answered once.
//!
//! No device touches a ring. [`Queue::handle`] walks what the driver made available and keeps the promises that hold
//! against a hostile driver:
//! - one call serves at most one ring's worth of chains, then asks to be called again, so that a vCPU that adds
//!   chains as fast as they are served cannot hold the thread;
//! - a chain is walked completely before the device sees it, in bounded steps (a loop of descriptors ends, an indirect
//!   table counts too), and every piece of it lies in guest RAM;
//! - a ring or chain that breaks these rules is a [`QueueError`]: the device stops and needs a reset. Errors within
//!   a well-formed chain are the device's own matter.
//!
//! A device whose requests may take long has them taken and answered one by one instead, in any order (`runner`'s `overlap`).
//!
//! Interrupts and kicks are kept few: with EVENT_IDX each side says from which entry on it wants to hear again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VRING_AVAIL_F_NO_INTERRUPT};
use virtio_queue::{DescriptorChain, Queue as Ring, QueueOwnedT, QueueState as RingState, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};
use vmm_sys_util::eventfd::EventFd;

use super::{Buffers, Interrupt};
use crate::memory::GuestMemory;
use crate::sys::guest_io::MAX_PIECES;

/// Completions after which the driver is told although more chains wait.
const SIGNAL_EVERY: u16 = 16;

/// What a driver may not do to a queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The rings are not where rings can be, or their indices make no sense.
    #[error("ring of queue {queue}: {source}")]
    Ring {
        /// Number of the queue.
        queue: u16,
        /// What is wrong with it.
        source: virtio_queue::Error,
    },
    /// Nothing at all, a loop, an index out of the table, or an unreadable table.
    #[error("queue {queue}: chain at descriptor {head} does not end properly")]
    Unterminated {
        /// Number of the queue.
        queue: u16,
        /// First descriptor.
        head: u16,
    },
    /// More pieces than any request needs.
    #[error("queue {queue}: chain at descriptor {head} has more than {MAX_PIECES} pieces")]
    TooLong {
        /// Number of the queue.
        queue: u16,
        /// First descriptor.
        head: u16,
    },
    /// A buffer outside RAM.
    #[error("queue {queue}: descriptor of {length} bytes at {address:#x} is not in RAM")]
    OutsideRam {
        /// Number of the queue.
        queue: u16,
        /// Guest physical address.
        address: u64,
        /// Length in bytes.
        length: u32,
    },
    /// Something for the device to read behind something to write (virtio 1.2, section 2.7.4.2).
    #[error("queue {queue}: chain at descriptor {head} has a readable buffer behind a writable one")]
    OutOfOrder {
        /// Number of the queue.
        queue: u16,
        /// First descriptor.
        head: u16,
    },
}

/// One request: what the driver wrote, and where it wants the answer.
#[derive(Debug)]
pub struct Chain<'m> {
    /// For the device to read.
    pub readable: Buffers<'m>,
    /// For the device to write.
    pub writable: Buffers<'m>,
}

/// A chain that is served while the queue goes on.
#[derive(Debug)]
pub(super) struct Taken<'m> {
    /// First descriptor: what its answer names.
    pub head: u16,
    /// The chain.
    pub chain: Chain<'m>,
}

/// What became of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Done; this many bytes of its writable buffers were written.
    Used(u32),
    /// Not now: it stays available, and handling ends.
    Later,
}

/// Where a driver put a queue; plain data from registers or a snapshot, checked by [`Queue::new`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Entries, a power of two.
    pub size: u16,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub available: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
    /// Next entry of the available ring to serve.
    pub next_available: u16,
    /// Next entry of the used ring to fill.
    pub next_used: u16,
}

/// A queue between activation and reset.
#[derive(Debug)]
pub struct Queue {
    number: u16,
    ring: Ring,
    memory: GuestMemory,
    interrupt: Interrupt,
    kick: Arc<EventFd>,
    unsignalled: u16,
}

impl Queue {
    /// Checks `placement` against `max_size` and RAM. `features` is what both sides agreed on; `kick` calls the device again.
    pub fn new(
        number: u16,
        max_size: u16,
        placement: Placement,
        features: u64,
        memory: GuestMemory,
        interrupt: Interrupt,
        kick: Arc<EventFd>,
    ) -> Result<Self, QueueError> {
        let broken = |source| QueueError::Ring { queue: number, source };
        let state = RingState {
            max_size,
            next_avail: placement.next_available,
            next_used: placement.next_used,
            event_idx_enabled: features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0,
            size: placement.size,
            ready: true,
            desc_table: placement.descriptors,
            avail_ring: placement.available,
            used_ring: placement.used,
        };
        let ring = Ring::try_from(state).map_err(broken)?;
        // A queue is saved when everything taken has been answered, so more taken than answered is no state of ours.
        let served_but_unanswered = placement.next_available.wrapping_sub(placement.next_used);
        if !ring.is_valid(&memory) || placement.available == 0 || served_but_unanswered != 0 {
            return Err(broken(virtio_queue::Error::QueueNotReady));
        }
        Ok(Self { number, ring, memory, interrupt, kick, unsignalled: 0 })
    }

    /// Where the queue stands; feeding it to [`Queue::new`] continues there.
    pub fn placement(&self) -> Placement {
        let state = self.ring.state();
        Placement {
            size: state.size,
            descriptors: state.desc_table,
            available: state.avail_ring,
            used: state.used_ring,
            next_available: state.next_avail,
            next_used: state.next_used,
        }
    }

    /// Serves available chains in order until there are none, one is put off, or it is another's turn.
    ///
    /// Errors of `serve` end the handling and come back as they are; its chain stays unanswered, so they must be of the
    /// kind after which the device needs a reset.
    pub fn handle<E: From<QueueError>>(
        &mut self,
        mut serve: impl FnMut(&mut Chain<'_>) -> Result<Served, E>,
    ) -> Result<(), E> {
        let mut budget = self.ring.size();
        let result = loop {
            self.ring.disable_notification(&self.memory).map_err(|source| self.broken(source))?;
            match self.handle_available(&mut budget, &mut serve) {
                Ok(Stop::Empty) => {}
                Ok(Stop::PutOff) => break Ok(()),
                Ok(Stop::Turn) => {
                    self.call_again();
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
            // True when chains came before the driver could see that it should kick again.
            if !self.ring.enable_notification(&self.memory).map_err(|source| self.broken(source))? {
                break Ok(());
            }
        };
        self.signal()?;
        result
    }

    /// Entries.
    pub(super) fn size(&self) -> u16 {
        self.ring.size()
    }

    /// Takes the next chain, to be served while others are and answered by [`Queue::answer`], in any order. `memory` is the
    /// queue's own, borrowed from where it stays. `None` when there is none: then the driver kicks or has kicked.
    pub(super) fn take<'m>(&mut self, memory: &'m GuestMemory) -> Result<Option<Taken<'m>>, QueueError> {
        self.ring.disable_notification(memory).map_err(|source| self.broken(source))?;
        let next = match self.ring.iter(memory) {
            Ok(mut available) => available.next(),
            Err(source) => return Err(self.broken(source)),
        };
        if let Some(descriptors) = next {
            let head = descriptors.head_index();
            return Ok(Some(Taken { head, chain: walk(self.number, memory, descriptors)? }));
        }
        self.offer_rest()?;
        Ok(None)
    }

    /// Tells the driver what was answered, and lets another thread have what is available now and from now on.
    pub(super) fn offer_rest(&mut self) -> Result<(), QueueError> {
        // True when chains are there that the driver may not have kicked for.
        if self.ring.enable_notification(&self.memory).map_err(|source| self.broken(source))? {
            self.call_again();
        }
        self.signal()
    }

    /// As if the driver kicked.
    pub(super) fn call_again(&self) {
        // Fails only when the counter is full, and then the kick is pending anyway.
        let _ = self.kick.write(1);
    }

    fn handle_available<E: From<QueueError>>(
        &mut self,
        budget: &mut u16,
        serve: &mut impl FnMut(&mut Chain<'_>) -> Result<Served, E>,
    ) -> Result<Stop, E> {
        loop {
            if *budget == 0 {
                return Ok(Stop::Turn);
            }
            let next = match self.ring.iter(&self.memory) {
                Ok(mut available) => available.next(),
                Err(source) => return Err(self.broken(source).into()),
            };
            let Some(descriptors) = next else { return Ok(Stop::Empty) };
            *budget -= 1;
            let head = descriptors.head_index();
            let served = serve(&mut walk(self.number, &self.memory, descriptors)?)?;
            match served {
                Served::Later => {
                    self.ring.go_to_previous_position();
                    return Ok(Stop::PutOff);
                }
                Served::Used(written) => self.answer(head, written)?,
            }
        }
    }

    /// Gives a chain back with `written` bytes written. The driver may hear of it later.
    pub(super) fn answer(&mut self, head: u16, written: u32) -> Result<(), QueueError> {
        self.ring.add_used(&self.memory, head, written).map_err(|source| self.broken(source))?;
        self.unsignalled += 1;
        if self.unsignalled >= SIGNAL_EVERY { self.signal() } else { Ok(()) }
    }

    /// Interrupts the driver if it wants to know of what was answered.
    pub(super) fn signal(&mut self) -> Result<(), QueueError> {
        if self.unsignalled == 0 {
            return Ok(());
        }
        self.unsignalled = 0;
        let wanted = self.ring.needs_notification(&self.memory).map_err(|source| self.broken(source))?;
        if wanted && !self.interrupts_suppressed()? {
            self.interrupt.queue();
        }
        Ok(())
    }

    /// The older, coarser way to want no interrupts, for drivers without EVENT_IDX (virtio 1.2, section 2.7.7).
    fn interrupts_suppressed(&self) -> Result<bool, QueueError> {
        if self.ring.event_idx_enabled() {
            return Ok(false);
        }
        let flags = self
            .memory
            .load::<u16>(GuestAddress(self.ring.avail_ring()), Ordering::Acquire)
            .map_err(|source| self.broken(virtio_queue::Error::GuestMemory(source)))?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT != 0)
    }

    fn broken(&self, source: virtio_queue::Error) -> QueueError {
        QueueError::Ring { queue: self.number, source }
    }
}

enum Stop {
    Empty,
    PutOff,
    Turn,
}

/// Turns a chain of descriptors into buffers, or says what is wrong with it.
fn walk<'m>(
    queue: u16,
    memory: &'m GuestMemory,
    descriptors: DescriptorChain<&'m GuestMemory>,
) -> Result<Chain<'m>, QueueError> {
    let head = descriptors.head_index();
    let mut chain = Chain { readable: Buffers::default(), writable: Buffers::default() };
    let (mut pieces, mut has_next) = (0, true);
    // The iterator ends silently when it meets an index out of the table, an unreadable table or too many steps: then
    // the last descriptor still announces a next one.
    for descriptor in descriptors {
        has_next = descriptor.has_next();
        let writable = descriptor.is_write_only();
        if !writable && !chain.writable.is_empty() {
            return Err(QueueError::OutOfOrder { queue, head });
        }
        let (address, length) = (descriptor.addr(), descriptor.len());
        let outside = || QueueError::OutsideRam { queue, address: address.0, length };
        let access = if writable { Permissions::Write } else { Permissions::Read };
        if length == 0 {
            continue;
        }
        for piece in memory.get_slices(address, length as usize, access).map_err(|_| outside())? {
            pieces += 1;
            if pieces > MAX_PIECES {
                return Err(QueueError::TooLong { queue, head });
            }
            let buffers = if writable { &mut chain.writable } else { &mut chain.readable };
            buffers.push(piece.map_err(|_| outside())?);
        }
    }
    if has_next {
        return Err(QueueError::Unterminated { queue, head });
    }
    Ok(chain)
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
