//! The register file of a virtio-mmio device (virtio 1.2, section 4.2.2) and its status state machine.
//!
//! ```text
//!  0 ─▶ ACKNOWLEDGE ─▶ DRIVER ─▶ FEATURES_OK ─▶ DRIVER_OK        any ─▶ FAILED        any ── write 0 ──▶ 0
//!                        │            │             │
//!              features are written   │   everything is frozen
//!                            queues are written
//! ```
//!
//! Registers can be written only in their own phase: features before FEATURES_OK, a queue between FEATURES_OK and its
//! QueueReady, and but for the selectors none at all after DRIVER_OK. A write at another time changes nothing (the class of CVE-2026-5747:
//! a queue that moves under a device which checked it once).

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_F_VERSION_1,
};
use virtio_bindings::virtio_mmio as register;

use crate::virtio::state::{DeviceState, QueueState};
use crate::virtio::{DeviceId, Placement, RestoreError};

/// "virt" in little endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "Thca": no vendor numbers are assigned for MMIO.
const VENDOR: u32 = 0x6163_6854;
/// Shared memory registers read so when there is no such region (section 4.2.2).
const NO_SHARED_MEMORY: u32 = u32::MAX;

/// What a write asks for beyond changing a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Run the device with the queues that are ready.
    Activate,
    /// Take everything back.
    Reset,
    /// A queue has work.
    Notify(u32),
    /// These interrupt reasons were seen.
    Acknowledge(u32),
}

#[derive(Clone, Copy, Debug)]
struct QueueRegisters {
    max_size: u16,
    ready: bool,
    placement: Placement,
}

/// Registers that hold something, but for interrupt status and configuration, which are shared with the device.
#[derive(Clone, Debug)]
pub struct Registers {
    id: DeviceId,
    offered: u64,
    accepted: u64,
    status: u32,
    device_word: u32,
    driver_word: u32,
    selected_queue: u32,
    queues: Vec<QueueRegisters>,
}

impl Registers {
    /// After power-on. `offered` are all features, `sizes` the largest size of each queue.
    pub fn new(id: DeviceId, offered: u64, sizes: &[u16]) -> Self {
        let queue = |max_size: &u16| QueueRegisters {
            max_size: *max_size,
            ready: false,
            placement: Placement { size: *max_size, ..Placement::default() },
        };
        let queues = sizes.iter().map(queue).collect();
        Self {
            id,
            offered,
            accepted: 0,
            status: 0,
            device_word: 0,
            driver_word: 0,
            selected_queue: 0,
            queues,
        }
    }

    /// Features that both sides agreed on.
    pub fn features(&self) -> u64 {
        self.accepted
    }

    /// The status bits that the driver set.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// Whether a driver runs the device.
    pub fn active(&self) -> bool {
        self.status & (DRIVER_OK | FAILED) == DRIVER_OK
    }

    /// Where the driver put each queue; `None` for one that is not ready.
    pub fn placements(&self) -> Vec<Option<Placement>> {
        self.queues.iter().map(|queue| queue.ready.then_some(queue.placement)).collect()
    }

    /// The 32-bit register at `offset`; unknown ones read as zero.
    pub fn read(&self, offset: u32) -> u32 {
        let queue = self.queues.get(self.selected_queue as usize);
        match offset {
            register::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            register::VIRTIO_MMIO_VERSION => VERSION,
            register::VIRTIO_MMIO_DEVICE_ID => self.id as u32,
            register::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            register::VIRTIO_MMIO_DEVICE_FEATURES => match self.device_word {
                0 => self.offered as u32,
                1 => (self.offered >> 32) as u32,
                _ => 0,
            },
            register::VIRTIO_MMIO_QUEUE_NUM_MAX => queue.map_or(0, |queue| queue.max_size.into()),
            register::VIRTIO_MMIO_QUEUE_READY => queue.map_or(0, |queue| queue.ready.into()),
            register::VIRTIO_MMIO_STATUS => self.status,
            register::VIRTIO_MMIO_SHM_LEN_LOW
            | register::VIRTIO_MMIO_SHM_LEN_HIGH
            | register::VIRTIO_MMIO_SHM_BASE_LOW
            | register::VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
            _ => 0,
        }
    }

    /// Writes the 32-bit register at `offset`; unknown ones and those out of their phase keep their value.
    pub fn write(&mut self, offset: u32, value: u32) -> Effect {
        match offset {
            register::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.device_word = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.driver_word = value,
            register::VIRTIO_MMIO_DRIVER_FEATURES => self.accept_features(value),
            register::VIRTIO_MMIO_QUEUE_SEL => self.selected_queue = value,
            register::VIRTIO_MMIO_QUEUE_NOTIFY => return Effect::Notify(value),
            register::VIRTIO_MMIO_INTERRUPT_ACK => return Effect::Acknowledge(value),
            register::VIRTIO_MMIO_STATUS => return self.write_status(value),
            register::VIRTIO_MMIO_QUEUE_READY => self.set_queue_ready(value),
            _ => self.write_placement(offset, value),
        }
        Effect::None
    }

    fn accept_features(&mut self, value: u32) {
        if self.status & (DRIVER | FEATURES_OK | FAILED) != DRIVER {
            return;
        }
        let (shift, kept) = match self.driver_word {
            0 => (0, 0xffff_ffff_0000_0000),
            1 => (32, 0x0000_0000_ffff_ffff),
            _ => return,
        };
        self.accepted = self.accepted & kept | u64::from(value) << shift;
    }

    fn write_status(&mut self, value: u32) -> Effect {
        if value == 0 {
            let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
            *self = Self::new(self.id, self.offered, &sizes);
            return Effect::Reset;
        }
        // A driver sets one bit after the other and never clears one (section 2.1.1).
        let added = value & !self.status;
        let expected = match self.status {
            0 => ACKNOWLEDGE,
            ACKNOWLEDGE => DRIVER,
            status if status == ACKNOWLEDGE | DRIVER => FEATURES_OK,
            status if status == ACKNOWLEDGE | DRIVER | FEATURES_OK => DRIVER_OK,
            _ => 0,
        };
        if self.status & !value != 0 || added & !(expected | FAILED) != 0 {
            return Effect::None;
        }
        self.status |= added & FAILED;
        if added & expected == 0 || self.status & FAILED != 0 {
            return Effect::None;
        }
        match expected {
            // Left unset when the selection cannot work: the driver reads it back.
            FEATURES_OK if !self.features_acceptable() => return Effect::None,
            _ => self.status |= expected,
        }
        if expected == DRIVER_OK { Effect::Activate } else { Effect::None }
    }

    fn features_acceptable(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & (1 << VIRTIO_F_VERSION_1) != 0
    }

    fn selected_queue(&mut self) -> Option<&mut QueueRegisters> {
        let phase = self.status & (FEATURES_OK | DRIVER_OK | FAILED);
        let queue = self.queues.get_mut(self.selected_queue as usize)?;
        (phase == FEATURES_OK).then_some(queue)
    }

    fn set_queue_ready(&mut self, value: u32) {
        if let Some(queue) = self.selected_queue() {
            queue.ready = value & 1 != 0;
        }
    }

    fn write_placement(&mut self, offset: u32, value: u32) {
        let Some(queue) = self.selected_queue().filter(|queue| !queue.ready) else { return };
        let place = &mut queue.placement;
        match offset {
            register::VIRTIO_MMIO_QUEUE_NUM => {
                let fits = |size: &u16| size.is_power_of_two() && *size <= queue.max_size;
                if let Some(size) = u16::try_from(value).ok().filter(fits) {
                    place.size = size;
                }
            }
            register::VIRTIO_MMIO_QUEUE_DESC_LOW => set_low(&mut place.descriptors, value),
            register::VIRTIO_MMIO_QUEUE_DESC_HIGH => set_high(&mut place.descriptors, value),
            register::VIRTIO_MMIO_QUEUE_AVAIL_LOW => set_low(&mut place.available, value),
            register::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => set_high(&mut place.available, value),
            register::VIRTIO_MMIO_QUEUE_USED_LOW => set_low(&mut place.used, value),
            register::VIRTIO_MMIO_QUEUE_USED_HIGH => set_high(&mut place.used, value),
            _ => {}
        }
    }

    /// What a snapshot keeps of the registers; the transport adds what is shared with the device.
    pub fn save(&self) -> DeviceState {
        DeviceState {
            id: self.id,
            status: self.status,
            needs_reset: false,
            driver_features: self.accepted,
            selectors: [self.device_word, self.driver_word, self.selected_queue],
            interrupt_reasons: 0,
            config_generation: 0,
            config: Vec::new(),
            queues: self.queues.iter().map(|queue| QueueState::new(queue.ready, queue.placement)).collect(),
        }
    }

    /// Takes over saved registers after checking that a driver could have reached them on this device.
    pub fn restore(&mut self, state: &DeviceState) -> Result<(), RestoreError> {
        if state.id != self.id {
            return Err(RestoreError::OtherDevice { saved: state.id, built: self.id });
        }
        let steps = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];
        let reachable = |count: usize| steps[..count].iter().sum::<u32>() == state.status & !FAILED;
        if !(0..=steps.len()).any(reachable) {
            return Err(RestoreError::Status(state.status));
        }
        let mut restored = Self { accepted: state.driver_features, status: state.status, ..self.clone() };
        if state.status & FEATURES_OK != 0 && !restored.features_acceptable() {
            return Err(RestoreError::Features { saved: state.driver_features, offered: self.offered });
        }
        [restored.device_word, restored.driver_word, restored.selected_queue] = state.selectors;
        if state.queues.len() != restored.queues.len() {
            return Err(RestoreError::Queues);
        }
        for (queue, saved) in restored.queues.iter_mut().zip(&state.queues) {
            if !saved.size.is_power_of_two() || saved.size > queue.max_size {
                return Err(RestoreError::Queues);
            }
            (queue.ready, queue.placement) = (saved.ready, saved.placement());
        }
        *self = restored;
        Ok(())
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = *address & !0xffff_ffff | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = *address & 0xffff_ffff | u64::from(value) << 32;
}

#[cfg(test)]
#[path = "registers_test.rs"]
mod tests;
