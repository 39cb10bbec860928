//! KVM calls whose contract the type system cannot express.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use kvm_bindings::{kvm_userspace_memory_region, kvm_xsave};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::memory::GuestMemory;

/// Takes an open `/dev/kvm`.
pub fn from_fd(fd: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open and its ownership moves into `Kvm`.
    unsafe { Kvm::from_raw_fd(fd.into_raw_fd()) }
}

/// Gives `memory` to the VM, one slot per region. The caller keeps `memory` mapped as long as the VM runs, which
/// [`crate::memory::allocate`] does by never unmapping.
pub fn register_memory(vm: &VmFd, memory: &GuestMemory) -> Result<(), kvm_ioctls::Error> {
    for (slot, region) in memory.iter().enumerate() {
        let slot = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the range is a private mapping of this process that stays until the process ends, and regions do not
        // overlap.
        unsafe { vm.set_user_memory_region(slot) }?;
    }
    Ok(())
}

/// The reason that came with the last `KVM_EXIT_INTERNAL_ERROR` of this vCPU.
pub fn internal_suberror(vcpu: &mut VcpuFd) -> u32 {
    let run = vcpu.get_kvm_run();
    // SAFETY: every member of the union is plain integers, so any bytes are a valid value.
    unsafe { run.__bindgen_anon_1.internal.suberror }
}

/// Sets the extended state of a vCPU of a process that has asked for no dynamically enabled feature (arch_prctl(2)).
pub fn set_xsave(vcpu: &VcpuFd, state: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: without dynamically enabled features KVM reads at most the 4096 bytes of the structure
    // (Documentation/virt/kvm/api.rst, KVM_SET_XSAVE).
    unsafe { vcpu.set_xsave(state) }
}
