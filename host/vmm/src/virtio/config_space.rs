//! A device's configuration space, read by vCPUs without waiting for the device.
//!
//! A disk may be busy with a read for milliseconds; its capacity must be readable meanwhile. So the bytes live here, shared
//! between the device, which changes them, and its transport, which shows them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Interrupt;

/// Bytes, generation, and the line that tells the driver of a change. Clones are the same space.
#[derive(Clone, Debug, Default)]
pub struct ConfigSpace {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: Mutex<Vec<u8>>,
    generation: AtomicU32,
    interrupt: OnceLock<Interrupt>,
}

impl ConfigSpace {
    /// A space with its first content.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let shared = Shared { bytes: Mutex::new(bytes.into()), ..Shared::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Copies from `offset` on; what lies beyond the space reads as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
        for (to, from) in data.iter_mut().zip(rest.unwrap_or_default()) {
            *to = *from;
        }
    }

    /// The whole space.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes as the driver sees them: it compares generations around a read of several registers.
    pub fn generation(&self) -> u32 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Overwrites bytes from `offset` on and interrupts the driver. What lies beyond the space is ignored.
    pub fn update(&self, offset: usize, data: &[u8]) {
        {
            let mut bytes = self.shared.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            for (to, from) in bytes.iter_mut().skip(offset).zip(data) {
                *to = *from;
            }
            self.shared.generation.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(interrupt) = self.shared.interrupt.get() {
            interrupt.config();
        }
    }

    /// Names the line of later changes; the first call counts.
    pub(super) fn connect(&self, interrupt: Interrupt) {
        // A device has one transport; a second line would be a second transport of the same device.
        let _ = self.shared.interrupt.set(interrupt);
    }

    pub(super) fn restore_generation(&self, generation: u32) {
        self.shared.generation.store(generation, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_space_are_zero() {
        let config = ConfigSpace::new([1, 2, 3]);
        let mut data = [9; 4];
        config.read(1, &mut data);
        assert_eq!(data, [2, 3, 0, 0]);
        config.read(u64::MAX, &mut data);
        assert_eq!(data, [0; 4]);
    }

    #[test]
    fn a_change_counts_and_interrupts() {
        let config = ConfigSpace::new([0; 4]);
        let interrupt = Interrupt::new().unwrap();
        config.connect(interrupt.clone());
        config.update(2, &[7, 7, 7]);
        let mut data = [0; 4];
        config.read(0, &mut data);
        assert_eq!((data, config.generation(), interrupt.reasons()), ([0, 0, 7, 7], 1, 2));
    }
}
