//! virtio-balloon (virtio 1.2, section 5.5) for free page reporting only.
//!
//! The guest tells which pages it does not use, and they go back to the host at once: memory that a sandbox once needed is
//! not kept for its life. Nothing is ever inflated, and statistics are not offered: their queue is one more thing for a
//! guest to flood. What reported pages read as afterwards is not promised: zero, or what a file mapped there holds. A driver
//! that depends on it wants VIRTIO_BALLOON_F_PAGE_POISON, finds it missing and does not report.

use super::{Active, Chain, ConfigSpace, DeviceError, DeviceId, Served, VirtioDevice};
use crate::sys::guest_io;

/// Pages can be reported as free (section 5.5.6.7).
const F_PAGE_REPORTING: u64 = 1 << 5;
/// Smallest unit that the host can take back.
const PAGE: usize = 4096;
const QUEUE_SIZE: u16 = 32;
/// Behind inflate and deflate. Number 4 by the specification; drivers that number without gaps use 2, for lack of the
/// statistics and hint queues. Neither of these is offered, so whatever comes on a queue from here on is a report.
const FIRST_REPORTING: usize = 2;

/// The device; it has no state.
#[derive(Debug)]
pub struct Balloon {
    config: ConfigSpace,
}

impl Default for Balloon {
    fn default() -> Self {
        Self::new()
    }
}

impl Balloon {
    /// A balloon that stays empty.
    pub fn new() -> Self {
        // Pages wanted, pages given, free page hint, poison value: all zero for good.
        Self { config: ConfigSpace::new([0; 16]) }
    }
}

impl VirtioDevice for Balloon {
    fn id(&self) -> DeviceId {
        DeviceId::Balloon
    }

    fn features(&self) -> u64 {
        F_PAGE_REPORTING
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE; 5]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[]
    }

    fn config(&self) -> ConfigSpace {
        self.config.clone()
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        let Some(queue) = active.queue(index) else { return Ok(()) };
        queue.handle(|chain| {
            // Inflating is never asked for; pages that come nevertheless are ignored and answered.
            if index >= FIRST_REPORTING {
                give_back(chain);
            }
            Ok(Served::Used(0))
        })
    }
}

/// Gives back every whole page that the chain names. The host may refuse; the guest loses nothing by it.
fn give_back(chain: &Chain<'_>) {
    for piece in chain.writable.pieces() {
        let start = piece.ptr_guard().as_ptr() as usize;
        let skip = start.next_multiple_of(PAGE) - start;
        let Some(length) = piece.len().checked_sub(skip).map(|rest| rest / PAGE * PAGE) else { continue };
        if length == 0 {
            continue;
        }
        if let Ok(pages) = piece.subslice(skip, length) {
            let _ = guest_io::discard_pages(&pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::{Buffer, Machine};

    fn report_on(queue: usize) {
        let mut machine = Machine::new(Box::new(Balloon::new()));
        let area = machine.buffer(4 * 4096);
        assert_eq!(area % 4096, 0);
        machine.write(area, &[7; 4 * 4096]);
        // From the middle of the first page to the middle of the last: two whole pages.
        let report = [Buffer::write(area + 2048, 3 * 4096)];
        assert_eq!(machine.request(queue, &report), Some(0));
        assert_eq!(machine.read(area, 4096), vec![7; 4096]);
        assert_eq!(machine.read(area + 4096, 2 * 4096), vec![0; 2 * 4096]);
        assert_eq!(machine.read(area + 3 * 4096, 4096), vec![7; 4096]);
    }

    #[test]
    fn reported_pages_go_back_and_their_neighbours_stay() {
        report_on(4);
    }

    #[test]
    fn drivers_that_number_queues_without_gaps_can_report_too() {
        report_on(2);
    }

    #[test]
    fn inflating_changes_nothing() {
        let mut machine = Machine::new(Box::new(Balloon::new()));
        let page = machine.buffer(4096);
        machine.write(page, &[7; 4096]);
        assert_eq!(machine.request(0, &[Buffer::read(page, 4)]), Some(0));
        assert_eq!(machine.read(page, 4096), vec![7; 4096]);
    }
}
