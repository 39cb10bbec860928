//! The default system call filter: `seccomp.json` for a given set of capabilities.
//!
//! The file is the list of what is allowed, in groups with their reasons; all else fails with EPERM. A group may need a
//! capability, or yield to one. Inside a microVM the filter guards the guest's kernel, which is the container's own; the
//! host is behind KVM.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompBuilder, LinuxSyscall,
};
use serde::Deserialize;

const PROFILE: &str = include_str!("seccomp.json");
const EPERM: u32 = 1;

/// `--security-opt seccomp=…`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The built-in one.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// A file in the form of the runtime spec's `linux.seccomp`.
    File(PathBuf),
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("failed to read the seccomp profile {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a profile.
    #[error("{path} is no seccomp profile in the form of the runtime spec's linux.seccomp")]
    Malformed {
        /// The file, or the built-in profile.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// For the reader of the file.
    #[serde(rename = "why")]
    _why: String,
    names: Vec<String>,
    args: Option<Vec<LinuxSeccompArg>>,
    /// Fails with this instead of being allowed.
    errno: Option<u32>,
    /// Only with this capability.
    needs: Option<String>,
    /// Only without this capability.
    unless: Option<String>,
}

/// The filter for a process with these capabilities; `None` for none.
pub fn filter(
    profile: &Profile,
    capabilities: &HashSet<Capability>,
) -> Result<Option<LinuxSeccomp>, ProfileError> {
    match profile {
        Profile::Default => built_in(capabilities).map(Some),
        Profile::Unconfined => Ok(None),
        Profile::File(path) => from_file(path).map(Some),
    }
}

fn built_in(capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp, ProfileError> {
    let malformed = |source| ProfileError::Malformed { path: "the built-in profile".into(), source };
    let groups: Vec<Group> = serde_json::from_str(PROFILE).map_err(malformed)?;
    let has = |name: &String| super::capabilities::parse(name).is_ok_and(|one| capabilities.contains(&one));
    let syscalls = groups
        .into_iter()
        .filter(|group| group.needs.as_ref().is_none_or(has) && !group.unless.as_ref().is_some_and(has))
        .map(|group| {
            let action = if group.errno.is_some() {
                LinuxSeccompAction::ScmpActErrno
            } else {
                LinuxSeccompAction::ScmpActAllow
            };
            let mut syscall = LinuxSyscall::default();
            syscall.set_names(group.names).set_action(action).set_errno_ret(group.errno).set_args(group.args);
            syscall
        })
        .collect::<Vec<_>>();
    let filter = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .architectures([Arch::ScmpArchX86_64, Arch::ScmpArchX86])
        .syscalls(syscalls)
        .build();
    Ok(filter.unwrap_or_default())
}

fn from_file(path: &Path) -> Result<LinuxSeccomp, ProfileError> {
    let text = fs::read(path).map_err(|source| ProfileError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| ProfileError::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxSeccompArgBuilder, LinuxSeccompOperator};

    use super::super::capabilities;
    use super::*;

    /// Whether the filter says anything of a system call, and with which arguments.
    fn rules<'a>(filter: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        let syscalls = filter.syscalls().as_ref().unwrap();
        syscalls.iter().filter(|rule| rule.names().iter().any(|known| known == name)).collect()
    }

    #[test]
    fn ordinary_programs_may_work_and_administration_may_not() {
        let filter = filter(&Profile::Default, &capabilities::default_set()).unwrap().unwrap();
        assert_eq!(filter.default_action(), LinuxSeccompAction::ScmpActErrno);
        for allowed in ["read", "openat", "execve", "mmap", "socket", "futex", "chroot", "ptrace"] {
            assert_eq!(rules(&filter, allowed).len(), 1, "{allowed}");
        }
        for refused in
            ["mount", "unshare", "bpf", "init_module", "reboot", "kexec_load", "io_uring_setup", "keyctl"]
        {
            assert!(rules(&filter, refused).is_empty(), "{refused}");
        }
        let vsock = LinuxSeccompArgBuilder::default().index(0usize).value(40u64);
        let below = vsock.op(LinuxSeccompOperator::ScmpCmpLt).build().unwrap();
        assert_eq!(rules(&filter, "socket")[0].args(), &Some(vec![below]), "nobody else talks to the host");
        assert!(rules(&filter, "socketcall").is_empty(), "nor by the way of 32-bit programs");
        assert_eq!(rules(&filter, "mmap2").len(), 1, "which run");
        let clone = rules(&filter, "clone");
        assert_eq!(clone.len(), 1);
        assert!(clone[0].args().is_some(), "no new namespaces");
        assert_eq!(rules(&filter, "clone3")[0].errno_ret(), Some(38), "the C library then takes clone");
    }

    #[test]
    fn a_capability_brings_its_system_calls() {
        let mut set = capabilities::default_set();
        set.insert(Capability::SysAdmin);
        let filter = filter(&Profile::Default, &set).unwrap().unwrap();
        for allowed in ["mount", "unshare", "setns"] {
            assert_eq!(rules(&filter, allowed).len(), 1, "{allowed}");
        }
        assert!(rules(&filter, "clone").iter().all(|rule| rule.args().is_none()));
        assert_eq!(rules(&filter, "clone3")[0].action(), LinuxSeccompAction::ScmpActAllow);
        assert!(rules(&filter, "init_module").is_empty());
    }

    #[test]
    fn a_profile_may_be_a_file_or_none() {
        let none = filter(&Profile::Unconfined, &HashSet::new()).unwrap();
        assert_eq!(none, None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.json");
        fs::write(&path, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#).unwrap();
        let own = filter(&Profile::File(path.clone()), &HashSet::new()).unwrap().unwrap();
        assert_eq!(own.default_action(), LinuxSeccompAction::ScmpActAllow);
        fs::write(&path, "[]").unwrap();
        let error = filter(&Profile::File(path), &HashSet::new()).unwrap_err();
        assert!(matches!(error, ProfileError::Malformed { .. }));
        let error = filter(&Profile::File("/nowhere".into()), &HashSet::new()).unwrap_err();
        assert!(matches!(error, ProfileError::Read { .. }));
    }
}
