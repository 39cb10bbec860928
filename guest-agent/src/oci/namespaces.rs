//! Which namespaces a container makes, joins, or shares with the guest.
//!
//! As in every OCI runtime: a namespace without a path is new, one with a path is joined, one that is absent is
//! shared, here with the agent. Containers of a pod share the network by leaving it out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::{Spec, SpecError};
use crate::setup::job::{Clock, JoinedNamespace, TimeOffset};

/// The namespaces of a container.
pub struct Namespaces {
    /// `CLONE_NEW*` bits, the pid namespace included.
    pub new: i32,
    /// By path, the pid namespace apart.
    pub joined: Vec<JoinedNamespace>,
    /// The path of the pid namespace, if it is joined: a process has to be born in one.
    pub joined_pid: Option<PathBuf>,
}

/// Reads `linux.namespaces`.
pub fn namespaces(linux: &Linux) -> Result<Namespaces, SpecError> {
    let mut namespaces = Namespaces { new: 0, joined: Vec::new(), joined_pid: None };
    let mut seen = 0;
    for namespace in linux.namespaces().iter().flatten() {
        let kind = clone_flag(namespace.typ());
        let field = || format!("linux.namespaces: {}", namespace.typ());
        if seen & kind != 0 {
            return Err(SpecError::invalid(field(), "it is named twice"));
        }
        seen |= kind;
        match namespace.path() {
            Some(path) if !path.as_os_str().is_empty() => {
                if !path.is_absolute() {
                    return Err(SpecError::invalid(field(), format!("{} is not absolute", path.display())));
                }
                match kind {
                    libc::CLONE_NEWPID => namespaces.joined_pid = Some(path.clone()),
                    _ => namespaces.joined.push(JoinedNamespace { kind, path: path.clone() }),
                }
            }
            _ => namespaces.new |= kind,
        }
    }
    if namespaces.new & libc::CLONE_NEWNS == 0 {
        return Err(SpecError::unsupported(
            "linux.namespaces without mount",
            "a container has its own mounts",
        ));
    }
    Ok(namespaces)
}

/// Whether the container's init is pid 1 of a namespace of its own, whose end ends all its processes.
pub fn has_own_pid_namespace(spec: &Spec) -> bool {
    let mut namespaces = spec.linux.iter().flat_map(|linux| linux.namespaces().iter().flatten());
    namespaces.any(|namespace| {
        let joined = namespace.path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
        namespace.typ() == LinuxNamespaceType::Pid && !joined
    })
}

/// Reads `linux.timeOffsets`.
pub fn time_offsets(
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<BTreeMap<Clock, TimeOffset>, SpecError> {
    let mut offsets = BTreeMap::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let clock = match clock.as_str() {
            "monotonic" => Clock::Monotonic,
            "boottime" => Clock::Boottime,
            other => {
                return Err(SpecError::invalid("linux.timeOffsets", format!("no clock is named {other}")));
            }
        };
        let offset =
            TimeOffset { secs: offset.secs().unwrap_or(0), nanosecs: offset.nanosecs().unwrap_or(0) };
        offsets.insert(clock, offset);
    }
    if !offsets.is_empty() && namespaces.new & libc::CLONE_NEWTIME == 0 {
        return Err(SpecError::invalid("linux.timeOffsets", "the container has no new time namespace"));
    }
    Ok(offsets)
}

fn clone_flag(kind: LinuxNamespaceType) -> i32 {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    }
}
