//! CPUID: what KVM supports, with a topology of one socket whose cores have one thread each.
//!
//! The hypervisor leaves from 0x4000_0000 (KVM's signature, kvmclock, steal time, asynchronous page faults, PV EOI and
//! whatever else this host's KVM offers) pass through as KVM reports them.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use vmm_sys_util::fam;

const VENDOR: u32 = 0x0;
const FEATURES: u32 = 0x1;
const INTEL_CACHES: u32 = 0x4;
const INTEL_PMU: u32 = 0xa;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_V2: u32 = 0x1f;
const AMD_FEATURES: u32 = 0x8000_0001;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const AMD_PMU: u32 = 0x8000_0022;
const AMD_TOPOLOGY_V2: u32 = 0x8000_0026;

const ECX_PERF_CAPABILITIES: u32 = 1 << 15;
const ECX_TSC_DEADLINE: u32 = 1 << 24;
const ECX_HYPERVISOR: u32 = 1 << 31;
const EDX_MULTIPLE_LOGICAL: u32 = 1 << 28;
const AMD_ECX_MULTIPLE_CORES: u32 = 1 << 1;
const AMD_ECX_CORE_COUNTERS: u32 = 1 << 23;
/// "AuthenticAMD" and "HygonGenuine" as they come in EBX.
const VENDOR_AMD: u32 = 0x6874_7541;
const VENDOR_HYGON: u32 = 0x6f67_7948;

/// The leaves of every vCPU of one VM, but for the APIC id.
#[derive(Debug)]
pub struct Template {
    entries: CpuId,
    vcpus: u8,
}

impl Template {
    /// Starts from `supported`, what KVM answers to `KVM_GET_SUPPORTED_CPUID`. The deadline timer is a separate
    /// capability (`KVM_CAP_TSC_DEADLINE_TIMER`) that KVM leaves out of that answer.
    pub fn new(supported: &CpuId, vcpus: u8, tsc_deadline: bool) -> Result<Self, fam::Error> {
        let leaf = |function| supported.as_slice().iter().find(|entry| entry.function == function);
        let amd = leaf(VENDOR).is_some_and(|entry| matches!(entry.ebx, VENDOR_AMD | VENDOR_HYGON));
        let has_topology = leaf(VENDOR).is_some_and(|entry| entry.eax >= TOPOLOGY);
        let replaced = [TOPOLOGY, TOPOLOGY_V2, AMD_TOPOLOGY_V2, INTEL_PMU, AMD_PMU];
        let mut leaves: Vec<kvm_cpuid_entry2> = supported
            .as_slice()
            .iter()
            .filter(|entry| !replaced.contains(&entry.function))
            .copied()
            .collect();
        for entry in &mut leaves {
            match entry.function {
                FEATURES => features(entry, vcpus, tsc_deadline),
                INTEL_CACHES => {
                    share_cache(entry, vcpus);
                    entry.eax = entry.eax & !(0x3f << 26) | (u32::from(vcpus) - 1).min(0x3f) << 26;
                }
                AMD_CACHES => share_cache(entry, vcpus),
                AMD_FEATURES if amd => {
                    entry.ecx &= !AMD_ECX_CORE_COUNTERS;
                    if vcpus > 1 {
                        entry.ecx |= AMD_ECX_MULTIPLE_CORES;
                    }
                }
                AMD_SIZES if amd => entry.ecx = id_bits(vcpus) << 12 | (u32::from(vcpus) - 1),
                _ => {}
            }
        }
        if has_topology {
            leaves.extend(topology(vcpus));
        }
        Ok(Self { entries: CpuId::from_entries(&leaves)?, vcpus })
    }

    /// The leaves of the vCPU with APIC id `id`.
    pub fn for_vcpu(&mut self, id: u8) -> &CpuId {
        debug_assert!(id < self.vcpus);
        for entry in self.entries.as_mut_slice() {
            match entry.function {
                FEATURES => entry.ebx = entry.ebx & 0x00ff_ffff | u32::from(id) << 24,
                TOPOLOGY => entry.edx = u32::from(id),
                AMD_TOPOLOGY => (entry.eax, entry.ebx, entry.ecx) = (u32::from(id), u32::from(id), 0),
                _ => {}
            }
        }
        &self.entries
    }
}

/// Bits of an APIC id that tell cores apart.
fn id_bits(vcpus: u8) -> u32 {
    u32::from(vcpus).next_power_of_two().trailing_zeros()
}

fn features(entry: &mut kvm_cpuid_entry2, vcpus: u8, tsc_deadline: bool) {
    entry.ebx = entry.ebx & 0xff00_ffff | 1 << id_bits(vcpus) << 16;
    entry.ecx = entry.ecx & !ECX_PERF_CAPABILITIES | ECX_HYPERVISOR;
    if tsc_deadline {
        entry.ecx |= ECX_TSC_DEADLINE;
    }
    if vcpus > 1 {
        entry.edx |= EDX_MULTIPLE_LOGICAL;
    } else {
        entry.edx &= !EDX_MULTIPLE_LOGICAL;
    }
}

/// Levels 1 and 2 belong to one core, level 3 to all. Both vendors keep the number of sharers in the same field.
fn share_cache(entry: &mut kvm_cpuid_entry2, vcpus: u8) {
    let level = entry.eax >> 5 & 7;
    let sharers = if level >= 3 { u32::from(vcpus) } else { 1 };
    entry.eax = entry.eax & !(0xfff << 14) | (sharers - 1) << 14;
}

/// Extended topology: one thread per core, `vcpus` cores, then the level that ends the list.
fn topology(vcpus: u8) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let level = |index, kind, shift, count| kvm_cpuid_entry2 {
        function: TOPOLOGY,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | index,
        ..Default::default()
    };
    [level(0, THREADS, 0, 1), level(1, CORES, id_bits(vcpus), u32::from(vcpus)), level(2, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supported(vendor: u32) -> CpuId {
        let leaf = |function, eax, ebx| kvm_cpuid_entry2 { function, eax, ebx, ..Default::default() };
        CpuId::from_entries(&[
            leaf(VENDOR, 0x1f, vendor),
            leaf(FEATURES, 0, 0xffff_0800),
            leaf(INTEL_CACHES, 0xfc00_c121, 0),
            leaf(INTEL_CACHES, 0xfc00_c163, 0),
            leaf(INTEL_PMU, 0x0830_0802, 0),
            leaf(TOPOLOGY, 1, 2),
            leaf(0x4000_0000, 0x4000_0001, 0x4b4d_564b),
            leaf(AMD_SIZES, 0x3030, 0),
        ])
        .unwrap()
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid.as_slice().iter().find(|entry| entry.function == function && entry.index == index).unwrap()
    }

    #[test]
    fn each_vcpu_has_its_own_apic_id() {
        let mut template = Template::new(&supported(0x756e_6547), 3, true).unwrap();
        for id in 0..3 {
            let cpuid = template.for_vcpu(id);
            assert_eq!(find(cpuid, FEATURES, 0).ebx >> 24, u32::from(id));
            assert_eq!(find(cpuid, TOPOLOGY, 1).edx, u32::from(id));
        }
    }

    #[test]
    fn thirty_two_cores_share_the_last_cache_and_five_id_bits() {
        let mut template = Template::new(&supported(VENDOR_AMD), 32, true).unwrap();
        let cpuid = template.for_vcpu(31);
        assert_eq!(find(cpuid, TOPOLOGY, 1).eax, 5);
        assert_eq!(find(cpuid, TOPOLOGY, 1).ebx, 32);
        assert_eq!(find(cpuid, AMD_SIZES, 0).ecx, 5 << 12 | 31);
        let sharers = |level: u32| {
            let mut caches = cpuid.as_slice().iter().filter(|entry| entry.function == INTEL_CACHES);
            caches.find(|entry| entry.eax >> 5 & 7 == level).map(|entry| (entry.eax >> 14 & 0xfff) + 1)
        };
        assert_eq!((sharers(1), sharers(3)), (Some(1), Some(32)));
    }

    #[test]
    fn the_guest_sees_a_hypervisor_and_no_performance_counters() {
        let mut template = Template::new(&supported(VENDOR_AMD), 1, false).unwrap();
        let cpuid = template.for_vcpu(0);
        let features = find(cpuid, FEATURES, 0);
        assert_ne!(features.ecx & ECX_HYPERVISOR, 0);
        assert_eq!(features.ecx & ECX_TSC_DEADLINE, 0);
        assert_eq!(features.edx & EDX_MULTIPLE_LOGICAL, 0);
        assert!(cpuid.as_slice().iter().all(|entry| entry.function != INTEL_PMU));
        assert_eq!(find(cpuid, 0x4000_0000, 0).ebx, 0x4b4d_564b);
    }
}
