//! What this runtime does not do, by name.

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::{Process, Spec, SpecError};

/// Refuses a spec that asks for something the guest cannot give.
pub fn spec(spec: &Spec) -> Result<(), SpecError> {
    if !spec.version.starts_with("1.") {
        return Err(SpecError::invalid("ociVersion", format!("{} is not a version 1", spec.version)));
    }
    if spec.windows.is_some() || spec.solaris.is_some() || spec.zos.is_some() {
        return Err(SpecError::unsupported("windows, solaris, zos", "the guest is Linux"));
    }
    if spec.vm.is_some() {
        return Err(SpecError::unsupported(
            "vm",
            "the virtual machine is the sandbox's, not the container's",
        ));
    }
    if let Some(linux) = &spec.linux {
        self::linux(linux)?;
    }
    for mount in spec.mounts.iter().flatten() {
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            let field = format!("mounts[{}].uidMappings", mount.destination().display());
            return Err(SpecError::unsupported(field, "idmapped mounts belong to user namespaces"));
        }
    }
    match &spec.process {
        Some(process) => self::process(process),
        None => Err(SpecError::invalid("process", "a container needs a program")),
    }
}

/// Refuses what an init or exec process cannot have.
pub fn process(process: &Process) -> Result<(), SpecError> {
    let set = |value: &Option<String>| value.as_deref().is_some_and(|value| !value.is_empty());
    if set(&process.apparmor_profile) && process.apparmor_profile.as_deref() != Some("unconfined") {
        return Err(SpecError::unsupported("process.apparmorProfile", "the guest kernel has no AppArmor"));
    }
    if set(&process.selinux_label) {
        return Err(SpecError::unsupported("process.selinuxLabel", "the guest kernel has no SELinux"));
    }
    if process.command_line.is_some() {
        return Err(SpecError::unsupported("process.commandLine", "it is for Windows"));
    }
    if process.args.as_ref().is_none_or(Vec::is_empty) {
        return Err(SpecError::invalid("process.args", "it is empty"));
    }
    if !process.cwd.is_absolute() {
        return Err(SpecError::invalid("process.cwd", format!("{} is not absolute", process.cwd.display())));
    }
    Ok(())
}

fn linux(linux: &Linux) -> Result<(), SpecError> {
    let refuse = SpecError::unsupported;
    let has_user_namespace =
        linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    if has_user_namespace {
        return Err(refuse(
            "linux.namespaces: user",
            "the virtual machine is the boundary; ids are not mapped",
        ));
    }
    let mappings = linux.uid_mappings().iter().chain(linux.gid_mappings()).flatten();
    if mappings.count() > 0 {
        return Err(refuse("linux.uidMappings, linux.gidMappings", "user namespaces are not supported"));
    }
    if linux.mount_label().as_deref().is_some_and(|label| !label.is_empty()) {
        return Err(refuse("linux.mountLabel", "the guest kernel has no SELinux"));
    }
    if linux.intel_rdt().is_some() {
        return Err(refuse("linux.intelRdt", "a guest does not see the processor's caches"));
    }
    if linux.memory_policy().is_some() {
        return Err(refuse("linux.memoryPolicy", "a guest has one memory node"));
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(refuse("linux.netDevices", "host interfaces are not in the guest"));
    }
    Ok(())
}
