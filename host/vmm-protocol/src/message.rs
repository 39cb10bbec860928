//! The documents themselves: plain data, checked by whoever receives them.

use serde::{Deserialize, Serialize};

/// Position of a file descriptor among those that came with the same packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FdIndex(pub u8);

/// Keeper to VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Builds the VM without running it. Once per process.
    Configure(Box<VmConfig>),
    /// Runs the vCPUs for the first time.
    Start,
    /// Stops every vCPU between two instructions. Idempotent.
    Pause,
    /// Continues after [`Request::Pause`]. Idempotent.
    Resume,
    /// Gives an empty slot its disk; the guest sees a capacity change.
    AttachDisk {
        /// Index into [`VmConfig::disks`].
        slot: u8,
        /// The disk; its `file` indexes this packet's descriptors.
        disk: Disk,
    },
    /// Takes a slot's disk away, if it has one: its capacity becomes zero and the slot can get another. What the guest has
    /// asked of the disk before is still done.
    DetachDisk {
        /// Index into [`VmConfig::disks`].
        slot: u8,
    },
    /// Writes the state of every vCPU and device as JSON to the descriptor. The VM must be paused.
    SaveState {
        /// Where to write; a memfd or regular file.
        file: FdIndex,
    },
    /// Asks for [`Reply::Stats`].
    Stats,
    /// Ends the VM at once and the process with it.
    Quit,
}

/// VMM to keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromVmm {
    /// Answers the oldest unanswered request.
    Reply(Reply),
    /// Something happened in the VM.
    Event(Event),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// It was done.
    Done,
    /// Answer to [`Request::Stats`].
    Stats(Stats),
    /// It was not done; one sentence for a person.
    Failed(String),
}

/// What the VMM reports unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The guest connected to `port` of the host, one of [`Vsock::host_ports`]. The packet's only descriptor is the
    /// keeper's end of a stream socket pair.
    Connect {
        /// vsock port on the host (CID 2).
        port: u32,
    },
    /// The VM is over. The last packet before the process ends.
    Exited(ExitReason),
}

/// Why a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExitReason {
    /// The guest powered off.
    Shutdown,
    /// The guest asked for a reboot.
    Reboot,
    /// The guest kernel panicked and reset the machine.
    Panic,
    /// A vCPU triple-faulted.
    TripleFault,
    /// The keeper asked with [`Request::Quit`].
    Quit,
    /// KVM or a device could not go on; one sentence for a person.
    Failed(String),
}

/// Most disks of one VM: each has an interrupt line to itself, of the 19 that are left beside those of a PC's own devices, and
/// four devices are no disks.
pub const MAX_DISKS: usize = 15;

/// A VM to build. Every device is here from the start: nothing is hot-plugged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// 1 to 32.
    pub vcpus: u8,
    /// Guest RAM in MiB, 32 or more.
    pub memory_mib: u64,
    /// Added behind the command line that the VMM itself composes.
    pub cmdline: String,
    /// An open `/dev/kvm`.
    pub kvm: FdIndex,
    /// An ELF `vmlinux`, open for reading.
    pub kernel: FdIndex,
    /// A cpio archive, open for reading.
    pub initrd: Option<FdIndex>,
    /// Where what the guest prints is kept.
    pub console: Console,
    /// The guest's socket device.
    pub vsock: Option<Vsock>,
    /// virtio-blk slots, at most [`MAX_DISKS`]: slot N is the guest's Nth disk (`vda`, `vdb`, …).
    pub disks: Vec<DiskSlot>,
    /// Whether the guest gets a virtio-rng device.
    pub rng: bool,
}

/// Where serial and console output go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// A regular file open for reading and writing, kept below `max_bytes` by dropping the oldest half.
    pub log: FdIndex,
    /// Bound of the log in bytes; at least 4096.
    pub max_bytes: u32,
}

/// virtio-vsock in the hybrid model: guest ports are reached over a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vsock {
    /// The guest's context id, 3 or more.
    pub guest_cid: u64,
    /// A listening Unix stream socket. A client writes `CONNECT <port>\n` and reads `OK <host port>\n`.
    pub listener: FdIndex,
    /// Host ports that the guest may dial; each accepted dial is an [`Event::Connect`]. Others are reset.
    pub host_ports: Vec<u32>,
}

/// One virtio-blk device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DiskSlot {
    /// Present with capacity zero until [`Request::AttachDisk`].
    Empty,
    /// Present with its disk.
    Disk(Disk),
}

/// The backing of a virtio-blk device: raw bytes of a regular file or block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Open for reading, and for writing unless `read_only`.
    pub file: FdIndex,
    /// Whether writes are refused by the device.
    pub read_only: bool,
    /// At most 20 ASCII bytes, what the guest reads as the disk's serial number.
    pub serial: String,
}

/// Counters of a running VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Exits of all vCPUs to user space.
    pub exits: u64,
    /// Bytes read from disks.
    pub disk_read_bytes: u64,
    /// Bytes written to disks.
    pub disk_written_bytes: u64,
    /// Payload bytes from guest to host over vsock.
    pub vsock_from_guest_bytes: u64,
    /// Payload bytes from host to guest over vsock.
    pub vsock_to_guest_bytes: u64,
    /// Bytes of console output that the log dropped to stay within its bound.
    pub console_dropped_bytes: u64,
    /// Microseconds from process start to [`Request::Start`] being answered.
    pub start_us: u64,
}
