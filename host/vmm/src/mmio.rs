//! Dispatch of memory-mapped I/O, called from every vCPU thread.

use std::sync::Arc;

use crate::arch::x86_64::layout::{VIRTIO_MMIO, VIRTIO_MMIO_STRIDE};

/// A device with a page of registers. Both calls come from any vCPU thread, several at once.
pub trait MmioDevice: Send + Sync {
    /// Reads registers at `offset`.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Writes registers at `offset`.
    fn write(&self, offset: u64, data: &[u8]);
}

/// The devices of one VM by slot.
#[derive(Default)]
pub struct MmioBus {
    devices: Vec<Arc<dyn MmioDevice>>,
}

impl MmioBus {
    /// Slot N is `devices[N]`.
    pub fn new(devices: Vec<Arc<dyn MmioDevice>>) -> Self {
        Self { devices }
    }

    /// Reads; an address without a device reads as all ones.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes; an address without a device ignores it.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address) {
            device.write(offset, data);
        }
    }

    fn find(&self, address: u64) -> Option<(&dyn MmioDevice, u64)> {
        let offset = address.checked_sub(VIRTIO_MMIO)?;
        let slot = usize::try_from(offset / VIRTIO_MMIO_STRIDE).ok()?;
        self.devices.get(slot).map(|device| (&**device, offset % VIRTIO_MMIO_STRIDE))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<u64>>);

    impl MmioDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            self.0.lock().unwrap().push(offset);
            data.fill(7);
        }
        fn write(&self, offset: u64, _: &[u8]) {
            self.0.lock().unwrap().push(offset);
        }
    }

    #[test]
    fn an_access_reaches_the_device_of_its_slot() {
        let (first, second) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
        let bus = MmioBus::new(vec![first.clone(), second.clone()]);
        bus.write(VIRTIO_MMIO + VIRTIO_MMIO_STRIDE + 0x70, &[0]);
        let mut data = [0; 4];
        bus.read(VIRTIO_MMIO + 8, &mut data);
        assert_eq!(data, [7; 4]);
        assert_eq!(
            (first.0.lock().unwrap().clone(), second.0.lock().unwrap().clone()),
            (vec![8], vec![0x70])
        );
    }

    #[test]
    fn an_address_without_a_device_reads_as_ones() {
        let bus = MmioBus::default();
        for address in [0, VIRTIO_MMIO - 1, VIRTIO_MMIO, u64::MAX] {
            let mut data = [0; 2];
            bus.read(address, &mut data);
            bus.write(address, &data);
            assert_eq!(data, [0xff; 2]);
        }
    }
}
