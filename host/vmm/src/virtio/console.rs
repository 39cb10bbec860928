//! virtio-console (virtio 1.2, section 5.3) with one port that only prints: the guest's `hvc0`.
//!
//! What the guest writes goes to a sink that the VMM gives, usually the bounded console log. Nothing is ever received; the
//! buffers that the driver offers for it stay where they are.

use super::{Active, Buffers, ConfigSpace, DeviceError, DeviceId, Served, VirtioDevice};

/// Most bytes of one request that are printed; Linux sends a page at most. The rest is dropped, so that one request cannot
/// keep the thread for the 4 GiB that a chain can name.
pub const MAX_BYTES: usize = 64 * 1024;
/// Bytes copied at once.
const COPY: usize = 1024;
const QUEUE_SIZE: u16 = 32;
const TRANSMIT: usize = 1;

/// Where the guest's output goes; must not block.
pub type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// The device.
pub struct Console {
    config: ConfigSpace,
    sink: Sink,
}

impl Console {
    /// A console that prints to `sink`.
    pub fn new(sink: Sink) -> Self {
        // No size, one port, no emergency write: all zero.
        Self { config: ConfigSpace::new([0; 12]), sink }
    }

    fn print(&mut self, mut text: Buffers<'_>) {
        text.truncate(MAX_BYTES);
        let mut copy = [0; COPY];
        while !text.is_empty() {
            let count = text.len().min(COPY);
            if text.read(&mut copy[..count]).is_err() {
                return;
            }
            (self.sink)(&copy[..count]);
        }
    }
}

impl VirtioDevice for Console {
    fn id(&self) -> DeviceId {
        DeviceId::Console
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE, QUEUE_SIZE]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[TRANSMIT as u16]
    }

    fn config(&self) -> ConfigSpace {
        self.config.clone()
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        if index != TRANSMIT {
            return Ok(());
        }
        let Some(queue) = active.queue(TRANSMIT) else { return Ok(()) };
        queue.handle(|chain| {
            self.print(std::mem::take(&mut chain.readable));
            Ok(Served::Used(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::virtio::testing::{Buffer, Machine};

    fn console() -> (Machine, Arc<Mutex<Vec<u8>>>) {
        let printed = Arc::new(Mutex::new(Vec::new()));
        let sink = printed.clone();
        let console = Console::new(Box::new(move |bytes| sink.lock().unwrap().extend_from_slice(bytes)));
        (Machine::new(Box::new(console)), printed)
    }

    #[test]
    fn what_the_guest_writes_is_printed_in_order() {
        let (mut machine, printed) = console();
        let page = machine.buffer(64);
        machine.write(page, b"hello world\n");
        let text = [Buffer::read(page, 6), Buffer::read(page + 6, 6)];
        assert_eq!(machine.request(TRANSMIT, &text), Some(0));
        assert_eq!(*printed.lock().unwrap(), b"hello world\n");
    }

    #[test]
    fn a_flood_in_one_request_is_cut() {
        let (mut machine, printed) = console();
        let page = machine.buffer(64 * 1024);
        let text: Vec<_> = (0..16).map(|_| Buffer::read(page, 64 * 1024)).collect();
        assert_eq!(machine.request(TRANSMIT, &text), Some(0));
        assert_eq!(printed.lock().unwrap().len(), MAX_BYTES);
    }

    #[test]
    fn buffers_offered_for_input_stay_unused() {
        let (mut machine, _) = console();
        let page = machine.buffer(64);
        assert_eq!(machine.request(0, &[Buffer::write(page, 64)]), None);
        assert!(!machine.failed());
    }
}
