//! virtio-rng (virtio 1.2, section 5.4): the host kernel's random bytes, straight into the guest's buffer.
//!
//! A request is answered with at most [`MAX_BYTES`], whatever its length, and nothing is allocated for it: the driver reads
//! how much it got (a request of 64 KiB and more is what other monitors have stumbled over).

use std::io;

use super::{Active, Chain, ConfigSpace, DeviceError, DeviceId, Served, VirtioDevice};
use crate::sys::guest_io;

/// Most bytes in one answer.
pub const MAX_BYTES: usize = 64 * 1024;
const QUEUE_SIZE: u16 = 16;

/// The device; it has no state.
#[derive(Debug, Default)]
pub struct Rng {
    config: ConfigSpace,
}

impl Rng {
    /// A source of entropy.
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for Rng {
    fn id(&self) -> DeviceId {
        DeviceId::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[0]
    }

    fn config(&self) -> ConfigSpace {
        self.config.clone()
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        let Some(queue) = active.queue(index) else { return Ok(()) };
        queue.handle(|chain| match fill(chain) {
            Ok(filled) => Ok(Served::Used(filled)),
            Err(source) => Err(DeviceError::Host { action: "failed to get random bytes", source }),
        })
    }
}

fn fill(chain: &mut Chain<'_>) -> io::Result<u32> {
    chain.writable.truncate(MAX_BYTES);
    let mut filled = 0;
    for piece in chain.writable.pieces() {
        let count = guest_io::fill_random(piece)?;
        filled += count;
        if count < piece.len() {
            // Interrupted: less is an answer, too.
            break;
        }
    }
    // At most `MAX_BYTES`.
    Ok(filled as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtio::testing::{Buffer, Machine};

    #[test]
    fn a_buffer_is_filled() {
        let mut machine = Machine::new(Box::new(Rng::new()));
        let page = machine.buffer(4096);
        assert_eq!(machine.request(0, &[Buffer::write(page, 256)]), Some(256));
        assert_ne!(machine.read(page, 256), vec![0; 256]);
        assert_eq!(machine.read(page + 256, 64), vec![0; 64]);
    }

    #[test]
    fn a_request_of_64_kib_and_more_gets_64_kib() {
        let mut machine = Machine::new(Box::new(Rng::new()));
        let area = machine.buffer(256 * 1024);
        for length in [64 * 1024, 64 * 1024 + 1, 256 * 1024] {
            let used = machine.request(0, &[Buffer::write(area, length)]);
            assert_eq!(used, Some(MAX_BYTES as u32), "request of {length}");
        }
        assert_eq!(machine.read(area + MAX_BYTES as u64, 4096), vec![0; 4096]);
    }

    #[test]
    fn a_request_without_room_is_answered_with_nothing() {
        let mut machine = Machine::new(Box::new(Rng::new()));
        let page = machine.buffer(4096);
        assert_eq!(machine.request(0, &[Buffer::read(page, 16)]), Some(0));
        assert!(!machine.failed());
    }

    #[test]
    fn a_buffer_outside_ram_stops_the_device_until_it_is_reset() {
        let mut machine = Machine::new(Box::new(Rng::new()));
        assert_eq!(machine.request(0, &[Buffer::write(u64::MAX - 100, 64)]), None);
        assert!(machine.failed());
        machine.restart();
        let page = machine.buffer(64);
        assert_eq!(machine.request(0, &[Buffer::write(page, 64)]), Some(64));
    }
}
