//! Which capabilities a container's processes have: docker's default set, changed by `--cap-add` and `--cap-drop`.

use std::collections::HashSet;
use std::str::FromStr;

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

const OTHERS: [Capability; 27] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::DacReadSearch,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::NetAdmin,
    Capability::NetBroadcast,
    Capability::Perfmon,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

/// A text that names no capability.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown capability {0:?}: use a name of capabilities(7), such as NET_ADMIN, or ALL")]
pub struct UnknownCapability(String);

/// What a container has when nothing is said.
pub fn default_set() -> HashSet<Capability> {
    DEFAULT.into()
}

/// Reads `NET_ADMIN`, `net_admin` or `CAP_NET_ADMIN`.
pub fn parse(name: &str) -> Result<Capability, UnknownCapability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(short).map_err(|_| UnknownCapability(name.to_owned()))
}

/// The default set with some added and some dropped. `ALL` in either means every one; the other list then picks.
pub fn select(add: &[String], drop: &[String]) -> Result<HashSet<Capability>, UnknownCapability> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("all");
    let named = |names: &[String]| {
        names.iter().filter(|name| !is_all(name)).map(|name| parse(name)).collect::<Result<HashSet<_>, _>>()
    };
    let (added, dropped) = (named(add)?, named(drop)?);
    let start = if add.iter().any(is_all) {
        DEFAULT.into_iter().chain(OTHERS).collect()
    } else if drop.iter().any(is_all) {
        HashSet::new()
    } else {
        default_set()
    };
    // A name on both lists is added: the last word of `--cap-drop ALL --cap-add X` is X.
    Ok(start.difference(&dropped).chain(&added).copied().collect())
}

/// The sets of a process. A user other than root holds none at start but may gain them from a set-uid program, as after
/// any execve.
pub fn of_process(set: &HashSet<Capability>, root: bool) -> LinuxCapabilities {
    let held = if root { set.clone() } else { HashSet::new() };
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(held.clone())
        .permitted(held)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        select(&owned(add), &owned(drop)).unwrap()
    }

    #[test]
    fn adding_and_dropping_change_the_default_set() {
        assert_eq!(of(&[], &[]), default_set());
        assert!(of(&["net_admin"], &[]).contains(&Capability::NetAdmin));
        assert!(!of(&[], &["CAP_CHOWN"]).contains(&Capability::Chown));
        assert_eq!(of(&["KILL"], &["ALL"]), HashSet::from([Capability::Kill]));
        assert_eq!(of(&["ALL"], &[]).len(), 41);
        assert_eq!(of(&["all"], &["SYS_ADMIN"]).len(), 40);
    }

    #[test]
    fn an_unknown_name_is_told() {
        let error = select(&["FLY".into()], &[]).unwrap_err();
        assert_eq!(error, UnknownCapability("FLY".into()));
    }

    #[test]
    fn only_root_starts_with_capabilities() {
        let set = default_set();
        assert_eq!(of_process(&set, true).effective().as_ref().map(HashSet::len), Some(14));
        let user = of_process(&set, false);
        assert_eq!(user.effective().as_ref().map(HashSet::len), Some(0));
        assert_eq!(user.bounding().as_ref(), Some(&set));
    }
}
