//! What this machine offers: enough to run a microVM, and how much of it.

mod capacity;
mod cpu;
pub mod kernel;
mod kvm;
pub mod report;

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::keeper::{ProgramError, kernel_and_initrd};

pub use cpu::Virtualization;
pub use kvm::KvmError;

/// Set, it skips the guess that KVM without VT-x or AMD-V boots no Linux, for a paravirtual KVM that does; and a VM may have
/// more processors than the machine, which then take turns.
const SKIP: &str = "THECA_SKIP_CHECKS";
/// Smaller guests do not get as far as their container: at 32 MiB the kernel is up and nothing else fits, a little above that
/// programs are read again and again from the disk without getting on.
pub const LEAST_MEMORY: u64 = 48 << 20;

/// What a guest gets when nothing is said.
pub const DEFAULT_MEMORY: u64 = 256 << 20;

/// Why no microVM can run here, or not the one wanted.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// /dev/kvm is missing or closed.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// /dev/kvm is there, but only to look at.
    #[error(
        "KVM on this machine cannot boot Linux: its processor offers neither VT-x nor AMD-V; use a machine that does, or turn on nested virtualization (`theca check` tells more)"
    )]
    NoVirtualization,
    /// The guest's files are missing.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The guest's kernel cannot be read.
    #[error("failed to read the guest kernel {path}")]
    KernelRead {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The guest's kernel is something else.
    #[error("{0} is no guest kernel: expected an uncompressed ELF vmlinux for this processor")]
    NotAKernel(PathBuf),
    /// More memory than the machine has.
    #[error("{wanted} of memory are wanted, this machine has {there}; ask for less with --memory")]
    TooMuchMemory {
        /// As asked for.
        wanted: String,
        /// In the machine.
        there: String,
    },
    /// Less memory than a guest needs.
    #[error("{0} of memory are too little for a guest; ask for 48m or more with --memory")]
    TooLittleMemory(String),
    /// More processors than the machine has.
    #[error("{wanted} processors are wanted, this machine has {there}; ask for fewer with --cpus")]
    TooManyCpus {
        /// As asked for.
        wanted: u32,
        /// In the machine.
        there: usize,
    },
}

/// Whether a VM of this size can run here, told before anything is made.
pub fn admit(vcpus: u32, memory_bytes: u64, kernel: Option<&Path>) -> Result<(), HostError> {
    let size = |bytes: u64| format!("{} MiB", bytes >> 20);
    if memory_bytes < LEAST_MEMORY {
        return Err(HostError::TooLittleMemory(size(memory_bytes)));
    }
    let there = memory();
    if there.is_some_and(|there| memory_bytes > there) {
        return Err(HostError::TooMuchMemory { wanted: size(memory_bytes), there: size(there.unwrap_or(0)) });
    }
    if env::var_os(SKIP).is_some() {
        return Ok(());
    }
    let there = processors();
    if vcpus as usize > there {
        return Err(HostError::TooManyCpus { wanted: vcpus, there });
    }
    kvm::open()?;
    if cpu::virtualization() == Some(Virtualization::None) {
        return Err(HostError::NoVirtualization);
    }
    match kernel {
        Some(kernel) => is_kernel(kernel),
        None => is_kernel(&kernel_and_initrd()?.0),
    }
}

/// Bytes of RAM in this machine.
fn memory() -> Option<u64> {
    nix::sys::sysinfo::sysinfo().ok().map(|info| info.ram_total())
}

/// Processors that this process may use.
fn processors() -> usize {
    let ours = nix::sched::sched_getaffinity(nix::unistd::Pid::this());
    let count = |set: nix::sched::CpuSet| {
        (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count()
    };
    ours.map_or(1, count)
}

/// An ELF file for 64-bit little-endian machines.
fn is_kernel(path: &Path) -> Result<(), HostError> {
    let failed = |source| HostError::KernelRead { path: path.to_owned(), source };
    let mut magic = [0; 6];
    match File::open(path).map_err(failed)?.read_exact(&mut magic) {
        Ok(()) if magic == *b"\x7fELF\x02\x01" => Ok(()),
        Ok(()) => Err(HostError::NotAKernel(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(HostError::NotAKernel(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_larger_than_the_machine_is_refused() {
        assert!(matches!(admit(1, 1 << 60, None), Err(HostError::TooMuchMemory { .. })));
        assert!(matches!(admit(1, LEAST_MEMORY - 1, None), Err(HostError::TooLittleMemory(_))));
        assert!(matches!(
            admit(100_000, 64 << 20, None),
            Err(HostError::TooManyCpus { wanted: 100_000, .. })
        ));
    }

    #[test]
    fn a_kernel_is_an_elf_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vmlinux");
        for (content, good) in [(&b"\x7fELF\x02\x01rest"[..], true), (b"MZ not one", false), (b"", false)] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_kernel(&path).is_ok(), good);
        }
        assert!(matches!(is_kernel(Path::new("/nowhere")), Err(HostError::KernelRead { .. })));
    }
}
