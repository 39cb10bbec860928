//! A wire configuration with its descriptors becomes a checked one that owns its files.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use theca_vmm_protocol::{Disk, DiskSlot, FdIndex, MAX_DISKS, VmConfig, Vsock};

use crate::console_log::ConsoleLog;
use crate::kvm::{self, KvmError};
use crate::memory::{MemoryError, MemorySize};
use crate::virtio::blk;

/// The first context id that is not reserved (virtio 1.2, 5.10.4).
const FIRST_GUEST_CID: u64 = 3;
/// Context ids are 32 bits wide; the highest means "any".
const LAST_GUEST_CID: u64 = u32::MAX as u64 - 1;

/// What a keeper got wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The document names a descriptor that did not come with it.
    #[error("the {what} is descriptor {index}, but only {count} came with the request")]
    MissingDescriptor {
        /// Whose descriptor.
        what: &'static str,
        /// Its index.
        index: u8,
        /// How many came.
        count: usize,
    },
    /// Two uses of one descriptor.
    #[error("the {what} is descriptor {index}, which is used for something else already")]
    DescriptorUsedTwice {
        /// The second user.
        what: &'static str,
        /// Its index.
        index: u8,
    },
    /// Too many disks.
    #[error("a VM has at most {MAX_DISKS} disks, not {0}")]
    TooManyDisks(usize),
    /// A reserved or impossible context id.
    #[error("{0} is not a context id for a guest; they start at {FIRST_GUEST_CID}")]
    GuestCid(u64),
    /// A vCPU count that no VM has.
    #[error(transparent)]
    Vcpus(#[from] KvmError),
    /// Too little or too much memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The log cannot be used.
    #[error("failed to use the console log")]
    Console(#[source] io::Error),
    /// The bound of the log is too small.
    #[error("a console log of {0} bytes is too small, give it at least {min}", min = ConsoleLog::MIN_BYTES)]
    ConsoleBound(u32),
    /// Not usable as a disk.
    #[error("failed to use the file of disk {slot}")]
    Disk {
        /// Which one.
        slot: usize,
        /// Why.
        #[source]
        source: blk::DiskError,
    },
}

/// A VM to build, checked, with its files.
pub struct MachineConfig {
    /// Processors.
    pub vcpus: u8,
    /// RAM.
    pub memory: MemorySize,
    /// Words behind the command line's own.
    pub cmdline: String,
    /// `/dev/kvm`.
    pub kvm: OwnedFd,
    /// ELF vmlinux.
    pub kernel: File,
    /// cpio archive.
    pub initrd: Option<File>,
    /// What the guest prints.
    pub console: ConsoleLog,
    /// The guest's socket device.
    pub vsock: Option<VsockConfig>,
    /// Disks by slot, empty slots included.
    pub disks: Vec<blk::Slot>,
    /// Whether the guest gets a source of entropy.
    pub rng: bool,
}

/// virtio-vsock.
#[derive(Debug)]
pub struct VsockConfig {
    /// The guest's context id.
    pub guest_cid: u64,
    /// Where the host's clients connect.
    pub listener: OwnedFd,
    /// Host ports that the guest may dial.
    pub host_ports: Vec<u32>,
}

impl MachineConfig {
    /// Checks `config` and takes its files from `fds`.
    pub fn new(config: VmConfig, fds: &mut Descriptors) -> Result<Self, ConfigError> {
        kvm::check_count(config.vcpus)?;
        if config.disks.len() > MAX_DISKS {
            return Err(ConfigError::TooManyDisks(config.disks.len()));
        }
        if config.console.max_bytes < ConsoleLog::MIN_BYTES {
            return Err(ConfigError::ConsoleBound(config.console.max_bytes));
        }
        let log = File::from(fds.take(config.console.log, "console log")?);
        let disks = config.disks.into_iter().enumerate();
        Ok(Self {
            vcpus: config.vcpus,
            memory: MemorySize::from_mib(config.memory_mib)?,
            cmdline: config.cmdline,
            kvm: fds.take(config.kvm, "KVM device")?,
            kernel: fds.take(config.kernel, "kernel")?.into(),
            initrd: config.initrd.map(|index| fds.take(index, "initrd")).transpose()?.map(File::from),
            console: ConsoleLog::new(log, config.console.max_bytes).map_err(ConfigError::Console)?,
            vsock: config.vsock.map(|vsock| VsockConfig::new(vsock, fds)).transpose()?,
            disks: disks.map(|(slot, disk)| disk_slot(slot, disk, fds)).collect::<Result<_, _>>()?,
            rng: config.rng,
        })
    }
}

impl VsockConfig {
    fn new(vsock: Vsock, fds: &mut Descriptors) -> Result<Self, ConfigError> {
        if !(FIRST_GUEST_CID..=LAST_GUEST_CID).contains(&vsock.guest_cid) {
            return Err(ConfigError::GuestCid(vsock.guest_cid));
        }
        let listener = fds.take(vsock.listener, "vsock listener")?;
        Ok(Self { guest_cid: vsock.guest_cid, listener, host_ports: vsock.host_ports })
    }
}

fn disk_slot(slot: usize, disk: DiskSlot, fds: &mut Descriptors) -> Result<blk::Slot, ConfigError> {
    match disk {
        DiskSlot::Empty => Ok(blk::Slot::empty()),
        DiskSlot::Disk(disk) => Ok(blk::Slot::with(open_disk(slot, disk, fds)?)),
    }
}

/// The disk that will sit in `slot`.
pub fn open_disk(slot: usize, disk: Disk, fds: &mut Descriptors) -> Result<blk::Disk, ConfigError> {
    let file = File::from(fds.take(disk.file, "disk")?);
    blk::Disk::open(file, disk.read_only, &disk.serial).map_err(|source| ConfigError::Disk { slot, source })
}

/// The descriptors of one packet, each to be taken once.
#[derive(Debug)]
pub struct Descriptors {
    fds: Vec<Option<OwnedFd>>,
}

impl Descriptors {
    /// Takes over what came with a packet. Whatever is not taken is closed.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self { fds: fds.into_iter().map(Some).collect() }
    }

    /// The descriptor at `index`, for `what`.
    pub fn take(&mut self, index: FdIndex, what: &'static str) -> Result<OwnedFd, ConfigError> {
        let (count, index) = (self.fds.len(), index.0);
        let slot = self.fds.get_mut(usize::from(index));
        let slot = slot.ok_or(ConfigError::MissingDescriptor { what, index, count })?;
        slot.take().ok_or(ConfigError::DescriptorUsedTwice { what, index })
    }
}

#[cfg(test)]
mod tests {
    use theca_vmm_protocol::Console;

    use super::*;

    fn config() -> VmConfig {
        VmConfig {
            vcpus: 1,
            memory_mib: 128,
            cmdline: String::new(),
            kvm: FdIndex(0),
            kernel: FdIndex(1),
            initrd: None,
            console: Console { log: FdIndex(2), max_bytes: 4096 },
            vsock: None,
            disks: Vec::new(),
            rng: false,
        }
    }

    fn refusal(config: VmConfig) -> String {
        let files = (0..3).map(|_| tempfile::tempfile().unwrap().into()).collect();
        let error = MachineConfig::new(config, &mut Descriptors::new(files)).err().expect("must be refused");
        error.to_string()
    }

    #[test]
    fn bounds_are_told_with_the_refusal() {
        assert!(refusal(VmConfig { vcpus: 33, ..config() }).contains("1 to 32"));
        assert!(refusal(VmConfig { vcpus: 0, ..config() }).contains("1 to 32"));
        assert!(refusal(VmConfig { memory_mib: 16, ..config() }).contains("at least 32"));
        assert!(refusal(VmConfig { disks: vec![DiskSlot::Empty; 16], ..config() }).contains("at most 15"));
        let console = Console { log: FdIndex(2), max_bytes: 100 };
        assert!(refusal(VmConfig { console, ..config() }).contains("at least 4096"));
    }

    #[test]
    fn a_descriptor_is_used_once() {
        let twice = VmConfig { kernel: FdIndex(0), ..config() };
        assert!(refusal(twice).contains("used for something else"));
        assert!(refusal(VmConfig { kernel: FdIndex(9), ..config() }).contains("only 3 came"));
    }

    #[test]
    fn a_reserved_context_id_is_refused() {
        let vsock = |guest_cid| Some(Vsock { guest_cid, listener: FdIndex(1), host_ports: Vec::new() });
        for cid in [0, 1, 2, u64::from(u32::MAX), u64::MAX] {
            assert!(refusal(VmConfig { vsock: vsock(cid), ..config() }).contains("context id"));
        }
    }
}
