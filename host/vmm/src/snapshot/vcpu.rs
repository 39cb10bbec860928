//! One vCPU's registers.

use kvm_bindings::{
    KVM_MAX_MSR_ENTRIES, KVM_MP_STATE_SIPI_RECEIVED, Msrs, kvm_debugregs, kvm_lapic_state, kvm_mp_state,
    kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use super::StateError;
use crate::arch::x86_64::msr;

/// A vCPU between two instructions.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct VcpuState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    xsave: kvm_xsave,
    debug_regs: kvm_debugregs,
    lapic: kvm_lapic_state,
    /// Register number and value.
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
}

/// The same before its bounds are known to hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    regs: kvm_regs,
    sregs: kvm_sregs,
    xcrs: kvm_xcrs,
    xsave: kvm_xsave,
    debug_regs: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<(u32, u64)>,
    events: kvm_vcpu_events,
    mp_state: kvm_mp_state,
}

impl TryFrom<Unchecked> for VcpuState {
    type Error = StateError;

    fn try_from(raw: Unchecked) -> Result<Self, StateError> {
        if raw.msrs.len() > KVM_MAX_MSR_ENTRIES {
            return Err(StateError::TooManyMsrs(raw.msrs.len()));
        }
        if raw.mp_state.mp_state > KVM_MP_STATE_SIPI_RECEIVED {
            return Err(StateError::MpState(raw.mp_state.mp_state));
        }
        let Unchecked { regs, sregs, xcrs, xsave, debug_regs, lapic, msrs, events, mp_state } = raw;
        Ok(Self { regs, sregs, xcrs, xsave, debug_regs, lapic, msrs, events, mp_state })
    }
}

impl VcpuState {
    /// Reads the registers of a vCPU that is not running.
    pub fn save(vcpu: &VcpuFd) -> Result<Self, StateError> {
        Ok(Self {
            // First: reading it lets KVM finish what a pending start-up message began.
            mp_state: vcpu.get_mp_state().map_err(StateError::kvm("read the run state"))?,
            regs: vcpu.get_regs().map_err(StateError::kvm("read general registers"))?,
            sregs: vcpu.get_sregs().map_err(StateError::kvm("read special registers"))?,
            xcrs: vcpu.get_xcrs().map_err(StateError::kvm("read extended control registers"))?,
            xsave: vcpu.get_xsave().map_err(StateError::kvm("read the extended state"))?,
            debug_regs: vcpu.get_debug_regs().map_err(StateError::kvm("read debug registers"))?,
            lapic: vcpu.get_lapic().map_err(StateError::kvm("read the local APIC"))?,
            msrs: save_msrs(vcpu)?,
            events: vcpu.get_vcpu_events().map_err(StateError::kvm("read pending events"))?,
        })
    }

    /// Gives a vCPU that has its CPUID but has not run these registers.
    pub fn restore(&self, vcpu: &VcpuFd) -> Result<(), StateError> {
        vcpu.set_mp_state(self.mp_state).map_err(StateError::kvm("set the run state"))?;
        vcpu.set_regs(&self.regs).map_err(StateError::kvm("set general registers"))?;
        // Holds the APIC's base and mode, so before its registers.
        vcpu.set_sregs(&self.sregs).map_err(StateError::kvm("set special registers"))?;
        // Enables parts of the extended state, so before it.
        vcpu.set_xcrs(&self.xcrs).map_err(StateError::kvm("set extended control registers"))?;
        restore_xsave(vcpu, &self.xsave)?;
        vcpu.set_debug_regs(&self.debug_regs).map_err(StateError::kvm("set debug registers"))?;
        vcpu.set_lapic(&self.lapic).map_err(StateError::kvm("set the local APIC"))?;
        // The deadline timer is armed by its register only when the APIC's timer is in deadline mode.
        restore_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events).map_err(StateError::kvm("set pending events"))
    }
}

/// Reads in one call per register that KVM stops at: some are listed but not there on this processor.
fn save_msrs(vcpu: &VcpuFd) -> Result<Vec<(u32, u64)>, StateError> {
    let mut saved = Vec::with_capacity(msr::SAVED.len());
    let mut wanted: Vec<kvm_msr_entry> =
        msr::SAVED.iter().map(|index| kvm_msr_entry { index: *index, ..Default::default() }).collect();
    while !wanted.is_empty() {
        let mut list = Msrs::from_entries(&wanted).map_err(|_| StateError::TooManyMsrs(wanted.len()))?;
        let read = vcpu.get_msrs(&mut list).map_err(StateError::kvm("read model-specific registers"))?;
        saved.extend(list.as_slice().iter().take(read).map(|entry| (entry.index, entry.data)));
        wanted.drain(..(read + 1).min(wanted.len()));
    }
    Ok(saved)
}

/// Writes in one call per register that KVM stops at. A register that this processor lacks may still read as zero; not
/// being able to write that zero is no loss.
fn restore_msrs(vcpu: &VcpuFd, msrs: &[(u32, u64)]) -> Result<(), StateError> {
    if let Some((index, _)) = msrs.iter().find(|(index, _)| !msr::SAVED.contains(index)) {
        return Err(StateError::Msr(*index));
    }
    let mut left = msrs;
    while !left.is_empty() {
        let entries: Vec<kvm_msr_entry> = left
            .iter()
            .map(|(index, data)| kvm_msr_entry { index: *index, data: *data, ..Default::default() })
            .collect();
        let list = Msrs::from_entries(&entries).map_err(|_| StateError::TooManyMsrs(msrs.len()))?;
        let written = vcpu.set_msrs(&list).map_err(StateError::kvm("set model-specific registers"))?;
        left = match left.get(written..).and_then(<[_]>::split_first) {
            Some(((_, 0), rest)) => rest,
            Some(((index, _), _)) => return Err(StateError::Msr(*index)),
            None => &[],
        };
    }
    Ok(())
}

fn restore_xsave(vcpu: &VcpuFd, xsave: &kvm_xsave) -> Result<(), StateError> {
    crate::sys::kvm::set_xsave(vcpu, xsave).map_err(StateError::kvm("set the extended state"))
}
