//! Everything about a VM but its memory, as plain data.
//!
//! [`VmState`] is what `SaveState` writes. It is hostile input when it comes back: serde checks its shape, `TryFrom` its bounds, and
//! KVM refuses values that no processor can hold. KVM's own structures travel as bytes, as they are the kernel's ABI.

mod vcpu;
mod vm;

pub use vcpu::VcpuState;
pub use vm::{ChipState, VmState};

/// Why state was not saved or not taken over.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Only a paused VM has a state that holds still.
    #[error("the VM is not paused; pause it first")]
    NotPaused,
    /// KVM refused.
    #[error("KVM failed to {action}")]
    Kvm {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// One register was refused.
    #[error("KVM did not take model-specific register {0:#x}")]
    Msr(u32),
    /// More registers than KVM takes at once.
    #[error("the state names {0} model-specific registers, more than there are")]
    TooManyMsrs(usize),
    /// A processor count that no VM has.
    #[error("the state holds {0} vCPUs")]
    VcpuCount(usize),
    /// Written by another version.
    #[error("the state has version {0}, this program reads version {version}", version = VmState::VERSION)]
    Version(u32),
    /// A processor state that x86 does not have.
    #[error("the state holds the unknown run state {0}")]
    MpState(u32),
}

impl StateError {
    fn kvm(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { action, source }
    }
}
