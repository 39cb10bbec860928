//! The whole VM: interrupt controllers, timers and the list of everything else.

use kvm_bindings::{
    KVM_CLOCK_TSC_STABLE, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data,
    kvm_irqchip, kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use super::{StateError, VcpuState};
use crate::kvm::MAX_VCPUS;
use crate::legacy::serial::Serial;

/// A paused VM but for its memory and the files behind its devices.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Unchecked<D>")]
#[serde(bound(deserialize = "D: Deserialize<'de>"))]
pub struct VmState<D> {
    version: u32,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// By APIC id.
    pub vcpus: Vec<VcpuState>,
    /// What KVM keeps per VM.
    pub chips: ChipState,
    /// COM1.
    pub serial: Serial,
    /// By MMIO slot.
    pub devices: Vec<D>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked<D> {
    version: u32,
    memory_mib: u64,
    vcpus: Vec<VcpuState>,
    chips: ChipState,
    serial: Serial,
    devices: Vec<D>,
}

/// Interrupt controllers, interval timer and clock.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipState {
    /// Both 8259s and the IOAPIC.
    irqchips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
    clock: kvm_clock_data,
}

impl VmState<()> {
    /// Format of the saved document.
    pub const VERSION: u32 = 1;
}

impl<D> VmState<D> {
    /// Gathers the parts.
    pub fn new(
        memory_mib: u64,
        vcpus: Vec<VcpuState>,
        chips: ChipState,
        serial: Serial,
        devices: Vec<D>,
    ) -> Self {
        Self { version: VmState::VERSION, memory_mib, vcpus, chips, serial, devices }
    }
}

impl<D> TryFrom<Unchecked<D>> for VmState<D> {
    type Error = StateError;

    fn try_from(raw: Unchecked<D>) -> Result<Self, StateError> {
        if raw.version != VmState::VERSION {
            return Err(StateError::Version(raw.version));
        }
        if !(1..=usize::from(MAX_VCPUS)).contains(&raw.vcpus.len()) {
            return Err(StateError::VcpuCount(raw.vcpus.len()));
        }
        Ok(Self::new(raw.memory_mib, raw.vcpus, raw.chips, raw.serial, raw.devices))
    }
}

impl ChipState {
    /// Reads what KVM keeps for a VM whose vCPUs are paused.
    pub fn save(vm: &VmFd) -> Result<Self, StateError> {
        let chip = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map_err(StateError::kvm("read an interrupt controller"))?;
            Ok(chip)
        };
        Ok(Self {
            irqchips: [
                chip(KVM_IRQCHIP_PIC_MASTER)?,
                chip(KVM_IRQCHIP_PIC_SLAVE)?,
                chip(KVM_IRQCHIP_IOAPIC)?,
            ],
            pit: vm.get_pit2().map_err(StateError::kvm("read the interval timer"))?,
            clock: vm.get_clock().map_err(StateError::kvm("read the clock"))?,
        })
    }

    /// Gives them to a VM that has not run. The guest's clock goes on from where it was saved.
    pub fn restore(&self, vm: &VmFd) -> Result<(), StateError> {
        for (chip, id) in
            self.irqchips.iter().zip([KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC])
        {
            let chip = kvm_irqchip { chip_id: id, ..*chip };
            vm.set_irqchip(&chip).map_err(StateError::kvm("set an interrupt controller"))?;
        }
        vm.set_pit2(&self.pit).map_err(StateError::kvm("set the interval timer"))?;
        // A flag of KVM_GET_CLOCK that KVM_SET_CLOCK does not take.
        let clock = kvm_clock_data { flags: self.clock.flags & !KVM_CLOCK_TSC_STABLE, ..self.clock };
        vm.set_clock(&clock).map_err(StateError::kvm("set the clock"))
    }
}
