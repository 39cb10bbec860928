//! What this host's KVM must offer, and the errors of asking it.

use kvm_ioctls::{Cap, Kvm};

/// Most vCPUs of a VM.
pub const MAX_VCPUS: u8 = 32;
/// The only version there is (Documentation/virt/kvm/api.rst).
const API_VERSION: i32 = 12;

/// Everything used without asking again.
const REQUIRED: [(Cap, &str); 8] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Why KVM did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The descriptor is something else.
    #[error("the descriptor given as /dev/kvm is not KVM; open /dev/kvm itself")]
    NotKvm,
    /// A feature is missing.
    #[error("this host's KVM lacks {0}; use a newer kernel or another host")]
    Missing(&'static str),
    /// No vCPU, or more than Theca supports.
    #[error("a VM has 1 to {MAX_VCPUS} CPUs, not {0}")]
    VcpuCount(u8),
    /// More vCPUs than this host's KVM supports.
    #[error("this host's KVM runs at most {most} CPUs in a VM, not {asked}; ask for fewer")]
    TooManyVcpus {
        /// What was asked for.
        asked: u8,
        /// What there is.
        most: usize,
    },
    /// An ioctl failed.
    #[error("KVM failed to {action}")]
    Ioctl {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: kvm_ioctls::Error,
    },
}

impl KvmError {
    /// For `map_err`: names the action that failed.
    pub fn doing(action: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Ioctl { action, source }
    }
}

/// Checks that `kvm` can build a VM with `vcpus` vCPUs.
pub fn check(kvm: &Kvm, vcpus: u8) -> Result<(), KvmError> {
    if kvm.get_api_version() != API_VERSION {
        return Err(KvmError::NotKvm);
    }
    if let Some((_, name)) = REQUIRED.iter().find(|(capability, _)| !kvm.check_extension(*capability)) {
        return Err(KvmError::Missing(name));
    }
    check_count(vcpus)?;
    let most = kvm.get_max_vcpus();
    if usize::from(vcpus) > most {
        return Err(KvmError::TooManyVcpus { asked: vcpus, most });
    }
    Ok(())
}

/// Checks what can be checked before there is a KVM to ask.
pub fn check_count(vcpus: u8) -> Result<(), KvmError> {
    if (1..=MAX_VCPUS).contains(&vcpus) { Ok(()) } else { Err(KvmError::VcpuCount(vcpus)) }
}
