//! virtio-blk (virtio 1.2, section 5.2): raw bytes of a file or block device.
//!
//! - `slot`: what the keeper gives: a disk, now or later, and its counters.
//! - `request`: what the guest asks: parsed and checked before anything happens, then done.
//!
//! Disks are asynchronous by having threads: a loop serves nothing but disks with one thread for each slot and a few helpers, all
//! alike and all started before the guest, since no filter lets a thread start another. A slow file holds up neither vCPUs nor
//! other devices, and other disks not even when it hangs. Of one disk as many requests are in flight as there are helpers and
//! one more, and are answered as they are done (`runner`'s `overlap` says how).
//!
//! A read is first tried for what the page cache has. Only a request that must wait lets another thread go on behind it: most of
//! a sandbox's are answered at once, and for them a hand-over would cost more than the request. Data goes between file and guest
//! memory in one vectored system call per request, or two, and answers are gathered before the guest is interrupted.
//!
//! A flush covers the writes that were answered before it was made available (section 5.2.6.2). Those are in the file by then, so it
//! may overtake anything, as may every other request: a driver that wants an order waits for the answer.
//!
//! io_uring would do without threads, but one that may use it escapes its system call filter (the ring performs calls that the
//! filter never sees), which a jailed process gives up less gladly than a few KiB for each thread.
//!
//! An empty slot is a disk of capacity zero. Attaching changes the capacity and raises a configuration interrupt; Linux
//! revalidates the disk on it. Detaching is the same backwards. Features cannot change after probing, so a slot never offers VIRTIO_BLK_F_RO: a
//! read-only disk in it answers writes with an error.

mod request;
mod slot;

pub use request::{Request, RequestError};
pub use slot::{AttachError, Counters, Disk, DiskError, SECTOR, Slot};

use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_WRITE_ZEROES,
};

use super::{Chain, ConfigSpace, DeviceId, Helpers, Overlap, Requests, VirtioDevice};

/// Entries of the only queue.
const QUEUE_SIZE: u16 = 128;
/// Data pieces of one request: a whole queue's worth but for header and status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// Bytes of the configuration space up to write_zeroes_may_unmap (section 5.2.4).
const CONFIG_BYTES: usize = 60;

/// A virtio-blk device over a [`Slot`].
pub struct Block {
    slot: Slot,
    features: u64,
    helpers: Helpers,
}

impl Block {
    /// The device of `slot`, with its disk if there is one already. `helpers` are those of its loop.
    pub fn new(slot: Slot, helpers: Helpers) -> Self {
        let read_only = slot.disk().is_some_and(|disk| disk.read_only());
        let mut features = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH;
        features |= match read_only {
            true => 1 << VIRTIO_BLK_F_RO,
            false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
        };
        Self { slot, features, helpers }
    }
}

impl VirtioDevice for Block {
    fn id(&self) -> DeviceId {
        DeviceId::Block
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[0]
    }

    fn config(&self) -> ConfigSpace {
        self.slot.config()
    }

    fn overlap(&self) -> Option<Overlap> {
        Some(Overlap { requests: Arc::new(self.slot.clone()), helpers: self.helpers.clone() })
    }
}

impl Requests for Slot {
    fn perform(&self, chain: &mut Chain<'_>, waits: &mut dyn FnMut()) -> u32 {
        request::serve(chain, self, waits)
    }
}

/// The configuration space of a disk with `sectors` sectors.
fn config_bytes(sectors: u64) -> [u8; CONFIG_BYTES] {
    let mut bytes = [0; CONFIG_BYTES];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &sectors.to_le_bytes());
    put(12, &SEGMENTS.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    put(36, &request::MAX_CLEARED_SECTORS.to_le_bytes());
    put(40, &request::MAX_RANGES.to_le_bytes());
    // Holes are punched in pages.
    put(44, &8u32.to_le_bytes());
    put(48, &request::MAX_CLEARED_SECTORS.to_le_bytes());
    put(52, &request::MAX_RANGES.to_le_bytes());
    put(56, &[1]);
    bytes
}

#[cfg(test)]
#[path = "blk_test.rs"]
mod tests;
