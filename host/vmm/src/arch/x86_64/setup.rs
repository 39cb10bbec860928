//! One vCPU, from creation to its first instruction.

use kvm_bindings::{CpuId, Msrs};
use kvm_ioctls::VcpuFd;

use super::regs::{self, Entry};
use super::{lapic, msr};

/// Why a vCPU is not ready.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// KVM refused.
    #[error("KVM failed to {action}")]
    Kvm {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// KVM took fewer registers than given.
    #[error("KVM did not take model-specific register {0:#x}")]
    Msr(u32),
}

fn doing(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> SetupError {
    move |source| SetupError::Kvm { action, source }
}

/// Sets up a vCPU. `entry` is for the boot vCPU; the others wait for the start-up message as KVM creates them.
pub fn vcpu(vcpu: &VcpuFd, cpuid: &CpuId, entry: Option<Entry>) -> Result<(), SetupError> {
    vcpu.set_cpuid2(cpuid).map_err(doing("set CPUID"))?;
    let entries = msr::boot();
    let msrs = Msrs::from_entries(&entries).map_err(|_| SetupError::Msr(entries[0].index))?;
    let taken = vcpu.set_msrs(&msrs).map_err(doing("set model-specific registers"))?;
    if let Some(refused) = entries.get(taken) {
        return Err(SetupError::Msr(refused.index));
    }
    let mut apic = vcpu.get_lapic().map_err(doing("read the local APIC"))?;
    lapic::wire_inputs(&mut apic);
    vcpu.set_lapic(&apic).map_err(doing("set the local APIC"))?;
    let Some(entry) = entry else { return Ok(()) };
    let sregs = vcpu.get_sregs().map_err(doing("read special registers"))?;
    vcpu.set_sregs(&regs::special(entry, sregs)).map_err(doing("set special registers"))?;
    vcpu.set_regs(&regs::general(entry)).map_err(doing("set general registers"))
}
