//! A whole spec as the job of a container's init.

use std::path::PathBuf;

use super::hooks::{HookPoint, hooks};
use super::{Spec, SpecError, devices, mounts, namespaces, process, sysctls};
use crate::setup::job::{ContainerJob, MountSource};

/// What the spec does not say.
pub struct Runtime<'a> {
    /// The mounted root file system.
    pub rootfs: PathBuf,
    /// The container's cgroup, in the guest.
    pub cgroup: PathBuf,
    /// Whether it must be read-only even if the spec does not ask for it.
    pub readonly: bool,
    /// Whether init gets a terminal.
    pub terminal: bool,
    /// What hooks read on stdin.
    pub creating: &'a str,
    /// The same for hooks that run as it starts.
    pub created: &'a str,
}

/// A container's job, and the pid namespace to be born in.
pub struct Container {
    /// What init does.
    pub job: ContainerJob,
    /// Its pid namespace.
    pub pid_namespace: PidNamespace,
}

/// A container's pid namespace.
#[derive(Debug, PartialEq, Eq)]
pub enum PidNamespace {
    /// The guest's.
    Shared,
    /// Its own.
    New,
    /// Another container's, by guest path.
    Join(PathBuf),
}

/// Turns a spec, which [`super::parse_spec`] has accepted, into a job.
pub fn container_job(spec: &Spec, runtime: Runtime<'_>) -> Result<Container, SpecError> {
    let process = spec.process.as_ref().ok_or_else(|| SpecError::invalid("process", "it is missing"))?;
    let linux = spec.linux.clone().unwrap_or_default();
    let namespaces = namespaces::namespaces(&linux)?;
    let joined_network = namespaces.joined.iter().any(|joined| joined.kind == libc::CLONE_NEWNET);
    let own_uts = namespaces.new & libc::CLONE_NEWUTS != 0
        || namespaces.joined.iter().any(|joined| joined.kind == libc::CLONE_NEWUTS);
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if name.as_deref().is_some_and(|name| !name.is_empty()) && !own_uts {
            return Err(SpecError::invalid(field, "the container has no uts namespace of its own"));
        }
    }
    let name = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let paths = |paths: &Option<Vec<String>>| paths.iter().flatten().map(PathBuf::from).collect();
    let mounts = spec.mounts.iter().flatten().map(mounts::mount).collect::<Result<Vec<_>, _>>()?;
    let bound_dev = mounts.iter().any(|mount| {
        mount.destination.components().eq(PathBuf::from("/dev").components())
            && matches!(mount.source, MountSource::Bind { .. })
    });
    let pid_namespace = match &namespaces.joined_pid {
        Some(path) => PidNamespace::Join(path.clone()),
        None if namespaces.new & libc::CLONE_NEWPID != 0 => PidNamespace::New,
        None => PidNamespace::Shared,
    };
    let runtime_hooks = [HookPoint::Prestart, HookPoint::CreateRuntime]
        .into_iter()
        .any(|point| hooks(spec, point, "").is_ok_and(|hooks| !hooks.is_empty()));
    let time_offsets = namespaces::time_offsets(&linux, &namespaces)?;
    Ok(Container {
        pid_namespace,
        job: ContainerJob {
            new_namespaces: namespaces.new & !libc::CLONE_NEWPID,
            time_offsets,
            joined_namespaces: namespaces.joined,
            rootfs: runtime.rootfs,
            cgroup: runtime.cgroup,
            readonly_root: runtime.readonly
                || spec.root.as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            root_propagation: mounts::root_propagation(linux.rootfs_propagation().as_deref())?,
            mounts,
            devices: linux.devices().iter().flatten().map(devices::device).collect::<Result<_, _>>()?,
            populate_dev: !bound_dev,
            masked_paths: paths(linux.masked_paths()),
            readonly_paths: paths(linux.readonly_paths()),
            sysctls: match linux.sysctl() {
                Some(sysctl) => sysctls::sysctls(sysctl, namespaces.new, joined_network)?,
                None => Default::default(),
            },
            hostname: name(&spec.hostname),
            domainname: name(&spec.domainname),
            runtime_hooks,
            create_container_hooks: hooks(spec, HookPoint::CreateContainer, runtime.creating)?,
            start_container_hooks: hooks(spec, HookPoint::StartContainer, runtime.created)?,
            process: process::process_job(process, spec, runtime.terminal)?,
        },
    })
}
