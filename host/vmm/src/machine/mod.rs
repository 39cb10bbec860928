//! One VM with everything in it: built in one go, then started, paused, resumed and ended.
//!
//! [`build`] makes it from a checked configuration. Its threads end with the process.

mod build;
mod devices;
mod threads;

use std::sync::{Arc, Mutex, PoisonError};

use theca_vmm_protocol::Stats;

use crate::console_log::ConsoleLog;
use crate::kvm::Vm;
use crate::memory::MemorySize;
use crate::snapshot::{ChipState, VmState};
use crate::vcpu::{self, VcpuError};
use crate::virtio::{DeviceState, blk};

pub use build::{BuildError, build};
use devices::Devices;

/// A VM whose vCPUs and devices have their threads.
pub struct Machine {
    vm: Vm,
    memory: MemorySize,
    shared: Arc<vcpu::Machine>,
    vcpus: Vec<vcpu::Handle>,
    devices: Devices,
    console: Arc<Mutex<ConsoleLog>>,
}

impl Machine {
    /// Lets every vCPU run, for the first time or again; devices first, since a vCPU may use them at once.
    pub fn run(&self) -> Result<(), VcpuError> {
        self.devices.resume();
        self.vcpus.iter().try_for_each(vcpu::Handle::run)
    }

    /// Stops every vCPU between two instructions, then every device between two requests. Returns when all stand still.
    pub fn pause(&self) -> Result<(), VcpuError> {
        let leaving = self.vcpus.iter().map(vcpu::Handle::pause).collect::<Result<Vec<_>, _>>()?;
        for paused in leaving {
            paused.recv().map_err(|_| VcpuError::Gone)?;
        }
        self.devices.pause();
        Ok(())
    }

    /// Everything but the memory of a paused VM.
    pub fn save(&self) -> Result<VmState<DeviceState>, VcpuError> {
        let vcpus = self.vcpus.iter().map(vcpu::Handle::save).collect::<Result<_, _>>()?;
        let chips = ChipState::save(self.vm.fd())?;
        let serial = self.shared.ports.serial_state();
        Ok(VmState::new(self.memory.mib(), vcpus, chips, serial, self.devices.states()))
    }

    /// Gives the empty slot `slot` its disk.
    pub fn attach(&self, slot: usize, disk: blk::Disk) -> Result<(), AttachError> {
        let place = self.devices.slot(slot).ok_or(AttachError::NoSlot(slot))?;
        place.attach(disk).map_err(|_| AttachError::Taken(slot))
    }

    /// Takes the disk out of slot `slot`, if there is one.
    pub fn detach(&self, slot: usize) -> Result<(), AttachError> {
        self.devices.slot(slot).ok_or(AttachError::NoSlot(slot))?.detach();
        Ok(())
    }

    /// Counters so far.
    pub fn stats(&self) -> Stats {
        Stats {
            exits: self.vcpus.iter().map(vcpu::Handle::exits).sum(),
            console_dropped_bytes: self.console.lock().unwrap_or_else(PoisonError::into_inner).dropped(),
            ..self.devices.stats()
        }
    }

    /// Writes out what the guest printed last.
    pub fn flush_console(&self) {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

/// Why a disk was not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is no such slot.
    #[error("the VM has no disk slot {0}")]
    NoSlot(usize),
    /// It has its disk.
    #[error("disk slot {0} has a disk already")]
    Taken(usize),
}
