//! What a sandbox is made of, as whoever configures the runtime said. Nothing here comes from a pod.

use std::path::PathBuf;
use std::time::Duration;

use super::allowance::Allowance;

/// Processors of a sandbox that names none.
pub const DEFAULT_VCPUS: u32 = 1;
/// RAM of a sandbox that names none.
pub const DEFAULT_MEMORY_MIB: u64 = 256;
/// RAM that is added to what containers may use, where nobody says how much: for the guest itself.
pub const GUEST_MIB: u64 = 128;
/// Time for the guest to report. Generous: where KVM itself is emulated, a guest takes seconds.
pub const DEFAULT_BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// Options of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxOptions {
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// What its containers may use of both.
    pub allowance: Allowance,
    /// Added to the guest kernel's command line.
    pub kernel_cmdline: String,
    /// A guest kernel other than the installed one.
    pub kernel: Option<PathBuf>,
    /// Disks of the first task: with any, the VM boots before it is asked for.
    pub disks: Vec<DiskOption>,
    /// The sandbox ends with this process.
    pub parent: Option<u32>,
    /// Run when nobody collects the first task, or the parent is gone.
    pub exit_command: Vec<String>,
    /// For one task, whose disks need not survive.
    pub ephemeral: bool,
    /// For one task: there are no disks of other containers to come.
    pub one_task: bool,
    /// It boots at once and lasts until it is told to end, with tasks or without.
    pub hold: bool,
    /// From the VM's start to the agent's ready message.
    pub boot_timeout: Duration,
}

/// A disk that is known before the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOption {
    /// The image.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            vcpus: DEFAULT_VCPUS,
            memory_mib: DEFAULT_MEMORY_MIB,
            allowance: Allowance::default(),
            kernel_cmdline: String::new(),
            kernel: None,
            disks: Vec::new(),
            parent: None,
            exit_command: Vec::new(),
            ephemeral: false,
            one_task: false,
            hold: false,
            boot_timeout: DEFAULT_BOOT_TIMEOUT,
        }
    }
}
