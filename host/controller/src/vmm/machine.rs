//! A machine to build: sizes and paths in, a configuration with open descriptors out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use theca_vmm_protocol::{Console, Disk, DiskSlot, FdIndex, VmConfig, Vsock};

use super::disk::DiskFile;

/// The guest's address on its socket device; 0 to 2 are taken, vsock(7).
const GUEST_CID: u64 = 3;
/// Most processors of a VM.
const MOST_CPUS: usize = 32;
/// Set, a VM may have more processors than the machine: they take turns, which is slow, and all that differs.
const SKIP_CHECKS: &str = "THECA_SKIP_CHECKS";
/// Bound of the console log.
const CONSOLE_BYTES: u32 = 256 * 1024;

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// There is no KVM.
    #[error(
        "/dev/kvm does not exist: enable virtualization (VT-x or AMD-V) in the firmware or on the hypervisor below, and load kvm_intel or kvm_amd"
    )]
    NoKvm,
    /// KVM is not for this user.
    #[error("no permission to open /dev/kvm: run as root, or join the group that owns it (usually kvm)")]
    KvmDenied,
    /// A file could not be opened.
    #[error("failed to open {what} {}", path.display())]
    Open {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A descriptor could not be copied.
    #[error("failed to duplicate a descriptor for the VMM")]
    Duplicate(#[source] io::Error),
    /// More CPUs than a VM may have.
    #[error("{0} CPUs were asked for: a sandbox has 1 to 32, and no more than this machine's {1}")]
    Cpus(u32, usize),
    /// Less memory than a guest needs or more than there is.
    #[error(
        "{0} MiB of memory were asked for: a sandbox has at least 32, and no more than this machine's {1}"
    )]
    Memory(u64, u64),
    /// A kernel command line that could end early or hide something.
    #[error("the kernel command line holds control characters or more than 1024 bytes")]
    Cmdline,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processors.
    pub vcpus: u32,
    /// RAM.
    pub memory_mib: u64,
    /// Added to the guest's command line.
    pub cmdline: String,
    /// An ELF `vmlinux`.
    pub kernel: PathBuf,
    /// The archive with the agent.
    pub initrd: PathBuf,
}

/// What a machine is connected to.
pub struct Attachments<'a> {
    /// The device of KVM.
    pub kvm: &'a Path,
    /// Console log, open for reading and writing.
    pub console: &'a File,
    /// Listening socket behind which the guest's ports are.
    pub vsock: OwnedFd,
    /// The host's ports that the guest may dial.
    pub host_ports: Vec<u32>,
    /// Every disk slot, with its serial number where it has its disk already.
    pub slots: Vec<Option<(&'a DiskFile, String)>>,
}

/// A configuration and the descriptors that it names.
#[derive(Debug)]
pub struct Opened {
    /// What the VMM is told.
    pub(super) config: VmConfig,
    /// In the order of the configuration's indices.
    pub(super) fds: Vec<OwnedFd>,
}

impl Machine {
    /// Checks the sizes against this machine, before anything is started.
    pub fn check(&self) -> Result<(), MachineError> {
        self.check_on(match std::env::var_os(SKIP_CHECKS) {
            Some(_) => MOST_CPUS,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        })
    }

    fn check_on(&self, cpus: usize) -> Result<(), MachineError> {
        if self.vcpus == 0 || self.vcpus as usize > cpus.min(MOST_CPUS) {
            return Err(MachineError::Cpus(self.vcpus, cpus));
        }
        let host_mib = host_memory_mib();
        if self.memory_mib < 32 || self.memory_mib > host_mib {
            return Err(MachineError::Memory(self.memory_mib, host_mib));
        }
        if self.cmdline.len() > 1024 || self.cmdline.chars().any(char::is_control) {
            return Err(MachineError::Cmdline);
        }
        Ok(())
    }

    /// Opens everything.
    pub fn open(&self, attachments: Attachments<'_>) -> Result<Opened, MachineError> {
        self.check()?;
        let mut fds = Descriptors::default();
        let kvm = fds.add(open_kvm(attachments.kvm)?.into());
        let kernel = fds.add(open("the guest kernel", &self.kernel)?.into());
        let initrd = fds.add(open("the guest's initrd", &self.initrd)?.into());
        let console = attachments.console.try_clone().map_err(MachineError::Duplicate)?;
        let console = Console { log: fds.add(console.into()), max_bytes: CONSOLE_BYTES };
        let vsock = Vsock {
            guest_cid: GUEST_CID,
            listener: fds.add(attachments.vsock),
            host_ports: attachments.host_ports,
        };
        let mut disks = Vec::with_capacity(attachments.slots.len());
        for slot in attachments.slots {
            disks.push(match slot {
                None => DiskSlot::Empty,
                Some((file, serial)) => {
                    let fd = fds.add(file.try_clone().map_err(MachineError::Duplicate)?);
                    DiskSlot::Disk(Disk { file: fd, read_only: file.read_only(), serial })
                }
            });
        }
        let config = VmConfig {
            vcpus: self.vcpus as u8,
            memory_mib: self.memory_mib,
            cmdline: self.cmdline.clone(),
            kvm,
            kernel,
            initrd: Some(initrd),
            console,
            vsock: Some(vsock),
            disks,
            rng: true,
        };
        Ok(Opened { config, fds: fds.0 })
    }
}

/// Descriptors in the order in which a packet carries them.
#[derive(Default)]
struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    fn add(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        // Slots are at most 32 and the rest a handful, so the index fits.
        FdIndex((self.0.len() - 1) as u8)
    }
}

fn open_kvm(path: &Path) -> Result<File, MachineError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => MachineError::NoKvm,
        io::ErrorKind::PermissionDenied => MachineError::KvmDenied,
        _ => MachineError::Open { what: "KVM at", path: path.to_owned(), source },
    })
}

fn open(what: &'static str, path: &Path) -> Result<File, MachineError> {
    File::open(path).map_err(|source| MachineError::Open { what, path: path.to_owned(), source })
}

/// `MemTotal` of `/proc/meminfo`; without it no bound is known.
fn host_memory_mib() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map_or(u64::MAX, |kib: u64| kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(vcpus: u32, memory_mib: u64) -> Machine {
        let (kernel, initrd) = ("/nonexistent/vmlinux".into(), "/nonexistent/initrd".into());
        Machine { vcpus, memory_mib, cmdline: String::new(), kernel, initrd }
    }

    #[test]
    fn sizes_beyond_this_machine_are_refused_with_its_own() {
        assert!(machine(1, 64).check().is_ok());
        assert!(matches!(machine(0, 64).check(), Err(MachineError::Cpus(0, _))));
        assert!(matches!(machine(2, 64).check_on(1), Err(MachineError::Cpus(2, 1))));
        assert!(machine(32, 64).check_on(MOST_CPUS).is_ok());
        assert!(matches!(machine(33, 64).check_on(64), Err(MachineError::Cpus(33, 64))));
        assert!(matches!(machine(1, 31).check(), Err(MachineError::Memory(31, _))));
        let error = machine(1, u64::MAX - 1).check().unwrap_err().to_string();
        assert!(error.contains("no more than this machine's"), "{error}");
    }

    #[test]
    fn a_command_line_cannot_smuggle_lines() {
        let machine = Machine { cmdline: "quiet\ninit=/bin/sh".into(), ..machine(1, 64) };
        assert!(matches!(machine.check(), Err(MachineError::Cmdline)));
    }

    #[test]
    fn a_missing_kernel_is_named() {
        let error = open("the guest kernel", Path::new("/nonexistent/vmlinux")).unwrap_err();
        assert_eq!(error.to_string(), "failed to open the guest kernel /nonexistent/vmlinux");
    }
}
