//! Kernel settings of a container: only those that its own namespaces keep apart from the guest's.

use std::collections::{BTreeMap, HashMap};

use super::SpecError;

/// Settings of the IPC namespace, beside all of `fs.mqueue.`.
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Turns `linux.sysctl` into files below `/proc/sys`, for a container that makes the namespaces `new`.
pub fn sysctls(
    sysctl: &HashMap<String, String>,
    new: i32,
    joined_network: bool,
) -> Result<BTreeMap<String, String>, SpecError> {
    let mut files = BTreeMap::new();
    for (name, value) in sysctl {
        let field = || format!("linux.sysctl: {name}");
        // `net/ipv4/conf/eth0.1/...` uses slashes so that a component may hold a dot.
        let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        let dotted = path.replace('/', ".");
        if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
            return Err(SpecError::invalid(field(), "it is not the name of a setting"));
        }
        let namespace = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            libc::CLONE_NEWIPC
        } else if dotted.starts_with("net.") {
            libc::CLONE_NEWNET
        } else if matches!(dotted.as_str(), "kernel.domainname" | "kernel.hostname") {
            libc::CLONE_NEWUTS
        } else {
            return Err(SpecError::unsupported(field(), "it belongs to no namespace of the container"));
        };
        let own = new & namespace != 0 || (namespace == libc::CLONE_NEWNET && joined_network);
        if !own {
            return Err(SpecError::invalid(field(), "the container shares that namespace with the guest"));
        }
        files.insert(path, value.clone());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, new: i32) -> Result<BTreeMap<String, String>, SpecError> {
        sysctls(&HashMap::from([(name.to_owned(), "1".to_owned())]), new, false)
    }

    #[test]
    fn a_namespaced_setting_becomes_a_file() {
        let files = one("net.ipv4.ip_forward", libc::CLONE_NEWNET).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["net/ipv4/ip_forward"]);
    }

    #[test]
    fn a_dot_inside_a_component_is_written_with_slashes() {
        let files = one("net/ipv4/conf/eth0.1/forwarding", libc::CLONE_NEWNET).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["net/ipv4/conf/eth0.1/forwarding"]);
    }

    #[test]
    fn settings_of_the_whole_guest_are_refused() {
        for name in ["vm.overcommit_memory", "kernel.core_pattern", "net/../kernel/core_pattern"] {
            assert!(one(name, i32::MAX).is_err(), "{name}");
        }
        assert!(one("net.core.somaxconn", libc::CLONE_NEWIPC).is_err());
    }
}
