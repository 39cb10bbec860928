//! What the agent asks of a set-up process, in checked form: nothing here still needs interpreting.
//!
//! [`crate::oci`] makes these out of a runtime spec; [`crate::setup`] carries them out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys;

/// One set-up process does one job.
#[derive(Debug, Serialize, Deserialize)]
pub enum Job {
    /// Become the init of a new container.
    Create(Box<ContainerJob>),
    /// Become another process of a container whose pidfd is descriptor [`super::CONTAINER_FD`].
    Exec(Box<ProcessJob>),
    /// Run hooks in the agent's own namespaces, and end.
    Hooks(Vec<Hook>),
}

/// A container, from its namespaces to its program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerJob {
    /// Namespaces to make, as `CLONE_NEW*` bits, except for the pid namespace, in which the process is born.
    pub new_namespaces: i32,
    /// Namespaces to join first, by guest path.
    pub joined_namespaces: Vec<JoinedNamespace>,
    /// Clock offsets of a new time namespace.
    pub time_offsets: BTreeMap<Clock, TimeOffset>,
    /// The mounted root file system.
    pub rootfs: PathBuf,
    /// The container's cgroup, in the guest.
    pub cgroup: PathBuf,
    /// Remounts the root read-only at the end.
    pub readonly_root: bool,
    /// `MS_SHARED` and the like, for the container's root.
    pub root_propagation: Option<u64>,
    /// In the order of the spec.
    pub mounts: Vec<MountJob>,
    /// Nodes to make.
    pub devices: Vec<DeviceNode>,
    /// Whether `/dev` is the container's own, to be filled with the usual nodes and links.
    pub populate_dev: bool,
    /// Paths that the container must not see.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that the container must not change.
    pub readonly_paths: Vec<PathBuf>,
    /// Files below `/proc/sys` and what to write to them.
    pub sysctls: BTreeMap<String, String>,
    /// Of the new UTS namespace.
    pub hostname: Option<String>,
    /// Of the new UTS namespace.
    pub domainname: Option<String>,
    /// Stop once the namespaces are there, until the agent has run the hooks of its side.
    pub runtime_hooks: bool,
    /// Run before `pivot_root`; their paths are the guest's.
    pub create_container_hooks: Vec<Hook>,
    /// Run after `pivot_root` and just before the program; their paths are the container's.
    pub start_container_hooks: Vec<Hook>,
    /// The container's program.
    pub process: ProcessJob,
}

/// A namespace that exists already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedNamespace {
    /// One `CLONE_NEW*` bit.
    pub kind: i32,
    /// Where the guest has it.
    pub path: PathBuf,
}

/// A clock that a time namespace can shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    Monotonic,
    /// CLOCK_BOOTTIME.
    Boottime,
}

/// By how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// Seconds.
    pub secs: i64,
    /// And nanoseconds.
    pub nanosecs: u32,
}

/// One mount of the spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountJob {
    /// In the container.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// `MS_*` bits of the mount itself.
    pub flags: u64,
    /// `MS_*` bits that the options cleared by name (`exec`, `dev` …), for bind mounts, which start from their source's.
    pub cleared: u64,
    /// `MS_SHARED` and the like, each applied after the mount, in order.
    pub propagation: Vec<u64>,
    /// `MOUNT_ATTR_*` to set on everything below the mount.
    pub recursive_set: u64,
    /// `MOUNT_ATTR_*` to clear on everything below the mount.
    pub recursive_clear: u64,
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or folder of the guest.
    Bind {
        /// Absolute.
        path: PathBuf,
    },
    /// A kernel file system.
    Filesystem {
        /// `proc`, `tmpfs` …
        fs_type: String,
        /// Shown in `/proc/mounts`.
        source: String,
        /// Options that are the file system's own, joined by commas.
        data: String,
    },
    /// The container's part of the cgroup tree.
    Cgroup,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// In the container.
    pub path: PathBuf,
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A program of the spec's `hooks`, with what it is told on stdin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The moment, as the spec names it.
    pub point: String,
    /// Absolute.
    pub path: PathBuf,
    /// From `argv[0]` on.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// Seconds; absent: for ever.
    pub timeout: Option<u64>,
    /// OCI state as JSON.
    pub state: String,
}

/// A program to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessJob {
    /// From `argv[0]` on; never empty.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Made if it is missing.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// The five capability sets.
    pub capabilities: Capabilities,
    /// `setrlimit`, before the user changes.
    pub rlimits: Vec<Rlimit>,
    /// See prctl(2).
    pub no_new_privileges: bool,
    /// Written to `/proc/self/oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// A terminal instead of the three descriptors.
    pub terminal: Option<TerminalSize>,
    /// Loaded last.
    pub seccomp: Option<SeccompFilter>,
    /// See sched_setattr(2).
    pub scheduler: Option<sys::sched::Attributes>,
    /// Class and priority, see ioprio_set(2).
    pub io_priority: Option<(u32, u32)>,
    /// See personality(2).
    pub personality: Option<u64>,
    /// Processors to run on from the start.
    pub cpu_affinity: Option<Vec<usize>>,
}

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// Numbers, as the spec has them.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Supplementary groups.
        additional_gids: Vec<u32>,
        /// File mode mask.
        umask: Option<u32>,
    },
    /// `user[:group]`, by name or number, looked up in the container's `/etc/passwd` and `/etc/group`.
    Lookup {
        /// As given.
        name: String,
        /// On top of the groups that `/etc/group` gives the user.
        additional_gids: Vec<u32>,
        /// File mode mask.
        umask: Option<u32>,
    },
}

/// Bit masks of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What can ever be gained.
    pub bounding: u64,
    /// What counts now.
    pub effective: u64,
    /// What the process may make effective.
    pub permitted: u64,
    /// What an executed file may keep.
    pub inheritable: u64,
    /// What an executed file keeps without asking.
    pub ambient: u64,
}

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// The limit.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// 0 by 0 leaves the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// A compiled system call filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SeccompFilter {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Classic BPF.
    pub program: Vec<sys::seccomp::Instruction>,
}
