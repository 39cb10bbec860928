//! One device on the MMIO bus: decodes accesses of vCPUs and carries them out.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_config::{VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1};
use virtio_bindings::virtio_mmio as register;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;

use super::{Effect, Registers};
use crate::event_loop::Handle;
use crate::memory::GuestMemory;
use crate::virtio::runner::Running;
use crate::virtio::state::QueueState;
use crate::virtio::{ConfigSpace, DeviceState, Interrupt, RestoreError, VirtioDevice};

/// Features that the queues give to every device.
const COMMON_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// A device with its registers; every method may be called from any vCPU thread.
///
/// Accesses that hit no register are ignored when written and zero when read. The calling thread makes no system calls
/// but writes to eventfds and waits for locks.
pub struct MmioTransport {
    registers: Mutex<Registers>,
    running: Running,
    config: ConfigSpace,
    interrupt: Interrupt,
}

impl MmioTransport {
    /// A reset device, served by the loop behind `events`.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        interrupt: Interrupt,
        events: &Handle,
    ) -> io::Result<Self> {
        let registers =
            Registers::new(device.id(), device.features() | COMMON_FEATURES, device.queue_sizes());
        let config = device.config();
        config.connect(interrupt.clone());
        let running = Running::new(device, memory, interrupt.clone(), events)?;
        Ok(Self { registers: Mutex::new(registers), running, config, interrupt })
    }

    /// The device as it was when `state` was saved. Everything in `state` is checked; a device that was running continues
    /// as soon as its loop does.
    pub fn restore(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        interrupt: Interrupt,
        events: &Handle,
        state: &DeviceState,
    ) -> Result<Self, RestoreError> {
        let transport = Self::new(device, memory, interrupt, events)?;
        {
            let mut registers = transport.registers();
            registers.restore(state)?;
            if state.config != transport.config.bytes() {
                return Err(RestoreError::Config);
            }
            transport.config.restore_generation(state.config_generation);
            let reasons = register::VIRTIO_MMIO_INT_VRING | register::VIRTIO_MMIO_INT_CONFIG;
            transport.interrupt.restore(state.interrupt_reasons & reasons, state.needs_reset);
            if registers.active() && !state.needs_reset {
                transport.running.activate(&registers.placements(), registers.features())?;
                transport.running.restored();
            }
        }
        Ok(transport)
    }

    /// The device as plain data. The loop that serves it must be paused.
    pub fn state(&self) -> DeviceState {
        let registers = self.registers();
        let mut state = DeviceState {
            needs_reset: self.interrupt.failed(),
            interrupt_reasons: self.interrupt.reasons(),
            config_generation: self.config.generation(),
            config: self.config.bytes(),
            ..registers.save()
        };
        for (saved, running) in state.queues.iter_mut().zip(self.running.placements().unwrap_or_default()) {
            if let Some(placement) = running {
                *saved = QueueState::new(true, placement);
            }
        }
        state
    }

    /// Eventfds that do what a write of their number to QueueNotify (offset 0x50) does, for KVM. Queues that are kicked
    /// rarely have none.
    pub fn queue_events(&self) -> io::Result<Vec<(u16, EventFd)>> {
        self.running.busy_kicks()
    }

    /// A read of `data.len()` bytes at `offset` of the device's page.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(register::VIRTIO_MMIO_CONFIG.into()) {
            self.config.read(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            *word = self.read_register(offset as u32).to_le_bytes();
        }
    }

    fn read_register(&self, offset: u32) -> u32 {
        match offset {
            // Read on each interrupt, so not behind the lock.
            register::VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt.reasons(),
            register::VIRTIO_MMIO_CONFIG_GENERATION => self.config.generation(),
            register::VIRTIO_MMIO_STATUS => {
                let failed = if self.interrupt.failed() { VIRTIO_CONFIG_S_NEEDS_RESET } else { 0 };
                self.registers().read(offset) | failed
            }
            _ => self.registers().read(offset),
        }
    }

    /// A write of `data` at `offset` of the device's page. No device here has a writable configuration space.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let (Ok(offset), Ok(word)) = (u32::try_from(offset), <[u8; 4]>::try_from(data)) else { return };
        let mut registers = self.registers();
        // The driver writes back what it read, and that includes the one bit that only the device sets.
        let ignored = if offset == register::VIRTIO_MMIO_STATUS { VIRTIO_CONFIG_S_NEEDS_RESET } else { 0 };
        let value = u32::from_le_bytes(word);
        if ignored != 0 && value != 0 && value & !ignored == 0 {
            return;
        }
        match registers.write(offset, value & !ignored) {
            Effect::None => {}
            Effect::Notify(queue) => self.running.kick(queue as usize),
            Effect::Acknowledge(reasons) => self.interrupt.acknowledge(reasons),
            Effect::Reset => {
                // In this order: what the device still says while it stops is forgotten, too.
                self.running.reset();
                self.interrupt.reset();
            }
            Effect::Activate => {
                let activated = self.running.activate(&registers.placements(), registers.features());
                if let Err(error) = activated {
                    self.running.refuse(&error);
                }
            }
        }
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
