//! Model-specific registers: the few that differ from KVM's reset values, and those that a snapshot carries.

use kvm_bindings::kvm_msr_entry;

const MISC_ENABLE: u32 = 0x1a0;
/// Fast string operations, which Linux takes as the leave to use `rep movsb`.
const MISC_ENABLE_FAST_STRINGS: u64 = 1;
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
/// MTRRs on, default write-back: without it Linux holds all memory for uncached and turns PAT off.
const MTRR_ENABLE_WRITE_BACK: u64 = 1 << 11 | 6;

/// What a vCPU starts with beside KVM's defaults.
pub fn boot() -> [kvm_msr_entry; 2] {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    [entry(MISC_ENABLE, MISC_ENABLE_FAST_STRINGS), entry(MTRR_DEFAULT_TYPE, MTRR_ENABLE_WRITE_BACK)]
}

/// Registers that a saved vCPU carries, in the order in which they are restored: the time-stamp counter before the deadline that
/// counts in it. Those that this processor or KVM does not have are skipped when saving.
pub const SAVED: &[u32] = &[
    0x10,        // IA32_TIME_STAMP_COUNTER
    0x3b,        // IA32_TSC_ADJUST
    0x48,        // IA32_SPEC_CTRL
    0xe1,        // IA32_UMWAIT_CONTROL
    0x174,       // IA32_SYSENTER_CS
    0x175,       // IA32_SYSENTER_ESP
    0x176,       // IA32_SYSENTER_EIP
    MISC_ENABLE, //
    0x277,       // IA32_PAT
    MTRR_DEFAULT_TYPE,
    0xd90,       // IA32_BNDCFGS
    0xda0,       // IA32_XSS
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // SFMASK
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
    0x4b56_4d00, // kvmclock: wall clock
    0x4b56_4d01, // kvmclock: system time
    0x4b56_4d02, // KVM asynchronous page faults: enable
    0x4b56_4d03, // KVM steal time
    0x4b56_4d04, // KVM end-of-interrupt
    0x4b56_4d05, // KVM halt polling control
    0x4b56_4d06, // KVM asynchronous page faults: vector
    0x6e0,       // IA32_TSC_DEADLINE
];
