//! One VM's descriptor and what is attached to it.

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{IoEventAddress, VcpuFd, VmFd};
use vmm_sys_util::eventfd::EventFd;

use super::KvmError;
use crate::arch::x86_64::layout;
use crate::memory::GuestMemory;
use crate::sys;

/// Offset of virtio-mmio's `QueueNotify` register (virtio 1.2, 4.2.2), which is four bytes wide.
const QUEUE_NOTIFY: u64 = 0x50;

/// A VM with memory and in-kernel interrupt controllers.
#[derive(Debug)]
pub struct Vm {
    fd: VmFd,
}

impl Vm {
    /// Gives a new VM its memory and controllers.
    pub fn new(fd: VmFd, memory: &GuestMemory) -> Result<Self, KvmError> {
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(KvmError::doing("place the identity map"))?;
        fd.set_tss_address(layout::KVM_TSS).map_err(KvmError::doing("place the task segment"))?;
        sys::kvm::register_memory(&fd, memory).map_err(KvmError::doing("register guest memory"))?;
        fd.create_irq_chip().map_err(KvmError::doing("create the interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(pit).map_err(KvmError::doing("create the interval timer"))?;
        Ok(Self { fd })
    }

    /// Creates vCPU `id`, which is also its APIC id.
    pub fn create_vcpu(&self, id: u8) -> Result<VcpuFd, KvmError> {
        self.fd.create_vcpu(u64::from(id)).map_err(KvmError::doing("create a vCPU"))
    }

    /// Lets `event` raise the interrupt line of MMIO slot `slot`: one edge per signal.
    pub fn connect_interrupt(&self, slot: usize, event: &EventFd) -> Result<(), KvmError> {
        self.fd
            .register_irqfd(event, layout::irq(slot))
            .map_err(KvmError::doing("connect a device's interrupt"))
    }

    /// Lets a guest's notification of queue `queue` of MMIO slot `slot` signal `event` without leaving the kernel.
    pub fn connect_queue(&self, slot: usize, queue: u32, event: &EventFd) -> Result<(), KvmError> {
        let address = IoEventAddress::Mmio(layout::mmio(slot) + QUEUE_NOTIFY);
        self.fd.register_ioevent(event, &address, queue).map_err(KvmError::doing("connect a device's queue"))
    }

    /// The descriptor, for saving and restoring state.
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }
}
