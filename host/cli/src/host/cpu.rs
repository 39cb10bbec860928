//! What the processor says of itself.

/// How the processor runs virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Virtualization {
    /// Intel's VT-x.
    Vmx,
    /// AMD's AMD-V.
    Svm,
    /// It does not, or the hypervisor around it hides that.
    None,
}

/// As /proc/cpuinfo would show it, without its cost. `None` where nothing is known of the processor.
#[cfg(target_arch = "x86_64")]
pub fn virtualization() -> Option<Virtualization> {
    use std::arch::x86_64::__cpuid;
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    const EXTENDED: u32 = 0x8000_0000;
    let vmx = __cpuid(1).ecx & VMX != 0;
    let svm = __cpuid(EXTENDED).eax > EXTENDED && __cpuid(EXTENDED + 1).ecx & SVM != 0;
    Some(match (vmx, svm) {
        (true, _) => Virtualization::Vmx,
        (_, true) => Virtualization::Svm,
        _ => Virtualization::None,
    })
}

/// Not asked on other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn virtualization() -> Option<Virtualization> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_agrees_with_cpuinfo() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let has = |flag: &str| cpuinfo.split_whitespace().any(|word| word == flag);
        if let Some(found) = virtualization() {
            assert_eq!(found != Virtualization::None, has("vmx") || has("svm"), "{found:?}");
        }
    }
}
