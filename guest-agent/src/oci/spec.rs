//! The outline of a runtime spec; the parts are oci-spec's.
//!
//! The crate's own `Spec` and `Process` would bring readers of what only other systems have, and a regular expression engine
//! for one field: a fifth of the agent, which every guest copies when it boots.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Box as ConsoleSize, Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount, PosixRlimit, Root,
    Scheduler, User,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A `config.json` (runtime-spec, config.md).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub version: String,
    /// The root file system.
    pub root: Option<Root>,
    /// What is mounted in it, in order.
    pub mounts: Option<Vec<Mount>>,
    /// What init becomes.
    pub process: Option<Process>,
    /// Name of the machine that the container sees.
    pub hostname: Option<String>,
    /// Its NIS domain.
    pub domainname: Option<String>,
    /// Programs to run along the way.
    pub hooks: Option<Hooks>,
    /// Whatever the caller wants to be remembered.
    pub annotations: Option<HashMap<String, String>>,
    /// Everything of Linux.
    pub linux: Option<Linux>,
    /// Only whether it is there.
    pub solaris: Option<IgnoredAny>,
    /// Only whether it is there.
    pub windows: Option<IgnoredAny>,
    /// Only whether it is there.
    pub vm: Option<IgnoredAny>,
    /// Only whether it is there.
    pub zos: Option<IgnoredAny>,
}

/// A spec's `process`, or that of an exec.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it wants a terminal.
    pub terminal: Option<bool>,
    /// The terminal's size.
    pub console_size: Option<ConsoleSize>,
    /// As whom it runs.
    #[serde(default)]
    pub user: User,
    /// The program and its arguments.
    pub args: Option<Vec<String>>,
    /// The command line of another system.
    pub command_line: Option<IgnoredAny>,
    /// Its environment, `NAME=value`.
    pub env: Option<Vec<String>>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What it may do.
    pub capabilities: Option<LinuxCapabilities>,
    /// Its limits.
    pub rlimits: Option<Vec<PosixRlimit>>,
    /// Whether its programs may gain privileges.
    pub no_new_privileges: Option<bool>,
    /// Its AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// How ready the kernel is to kill it.
    pub oom_score_adj: Option<i32>,
    /// Its SELinux label.
    pub selinux_label: Option<String>,
    /// Its turn at the disk.
    pub io_priority: Option<LinuxIOPriority>,
    /// Its turn at the processor.
    pub scheduler: Option<Scheduler>,
    /// Its processors.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Affinity>,
}

/// Processors of an exec, as lists such as `0-3,7`.
#[derive(Clone, Debug, Deserialize)]
pub struct Affinity {
    /// Before it is in its cgroup.
    pub initial: Option<String>,
    /// From then on.
    pub r#final: Option<String>,
}
