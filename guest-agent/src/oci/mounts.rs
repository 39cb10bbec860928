//! Mount options of the runtime spec as flags.

use std::path::PathBuf;

use libc::{
    MS_BIND, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME, MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME,
    MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_SHARED, MS_SILENT, MS_SLAVE,
    MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};
use oci_spec::runtime::Mount;

use super::SpecError;
use crate::setup::job::{MountJob, MountSource};

const MS_NOSYMFOLLOW: u64 = 256;

/// File systems that a spec may mount beside bind mounts. A disk's would let a container read the guest's disks.
const FILESYSTEMS: &[&str] =
    &["proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "hugetlbfs", "binfmt_misc"];

/// Options that set a flag.
const SET: &[(&str, u64)] = &[
    ("ro", MS_RDONLY),
    ("nosuid", MS_NOSUID),
    ("nodev", MS_NODEV),
    ("noexec", MS_NOEXEC),
    ("nosymfollow", MS_NOSYMFOLLOW),
    ("sync", MS_SYNCHRONOUS),
    ("dirsync", MS_DIRSYNC),
    ("mand", MS_MANDLOCK),
    ("noatime", MS_NOATIME),
    ("nodiratime", MS_NODIRATIME),
    ("relatime", MS_RELATIME),
    ("strictatime", MS_STRICTATIME),
    ("lazytime", MS_LAZYTIME),
    ("iversion", MS_I_VERSION),
    ("silent", MS_SILENT),
    ("bind", MS_BIND),
    ("rbind", MS_BIND | MS_REC),
];

/// Options that clear a flag.
const CLEAR: &[(&str, u64)] = &[
    ("rw", MS_RDONLY),
    ("suid", MS_NOSUID),
    ("dev", MS_NODEV),
    ("exec", MS_NOEXEC),
    ("symfollow", MS_NOSYMFOLLOW),
    ("async", MS_SYNCHRONOUS),
    ("nomand", MS_MANDLOCK),
    ("atime", MS_NOATIME),
    ("diratime", MS_NODIRATIME),
    ("norelatime", MS_RELATIME),
    ("nostrictatime", MS_STRICTATIME),
    ("nolazytime", MS_LAZYTIME),
    ("noiversion", MS_I_VERSION),
    ("loud", MS_SILENT),
    ("defaults", 0),
];

/// Options that set how mounts spread to other namespaces.
const PROPAGATION: &[(&str, u64)] = &[
    ("private", MS_PRIVATE),
    ("rprivate", MS_PRIVATE | MS_REC),
    ("shared", MS_SHARED),
    ("rshared", MS_SHARED | MS_REC),
    ("slave", MS_SLAVE),
    ("rslave", MS_SLAVE | MS_REC),
    ("unbindable", MS_UNBINDABLE),
    ("runbindable", MS_UNBINDABLE | MS_REC),
];

/// `mount_setattr` bits.
mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0x00;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Options that change everything below the mount: what to set and what to clear.
const RECURSIVE: &[(&str, u64, u64)] = &[
    ("rro", attr::RDONLY, 0),
    ("rrw", 0, attr::RDONLY),
    ("rnosuid", attr::NOSUID, 0),
    ("rsuid", 0, attr::NOSUID),
    ("rnodev", attr::NODEV, 0),
    ("rdev", 0, attr::NODEV),
    ("rnoexec", attr::NOEXEC, 0),
    ("rexec", 0, attr::NOEXEC),
    ("rnodiratime", attr::NODIRATIME, 0),
    ("rdiratime", 0, attr::NODIRATIME),
    ("rrelatime", attr::RELATIME, attr::ATIME),
    ("rnoatime", attr::NOATIME, attr::ATIME),
    ("rstrictatime", attr::STRICTATIME, attr::ATIME),
    ("rnosymfollow", attr::NOSYMFOLLOW, 0),
    ("rsymfollow", 0, attr::NOSYMFOLLOW),
];

/// Turns one entry of `mounts` into a job.
pub fn mount(mount: &Mount) -> Result<MountJob, SpecError> {
    let field = || format!("mounts: {}", mount.destination().display());
    if !mount.destination().is_absolute() {
        return Err(SpecError::invalid(field(), "the destination is not absolute"));
    }
    let mut job = MountJob {
        destination: mount.destination().clone(),
        source: MountSource::Cgroup,
        flags: 0,
        cleared: 0,
        propagation: Vec::new(),
        recursive_set: 0,
        recursive_clear: 0,
    };
    let mut data: Vec<&str> = Vec::new();
    for option in mount.options().iter().flatten() {
        if let Some((_, flag)) = SET.iter().find(|(name, _)| name == option) {
            job.flags |= flag;
            job.cleared &= !flag;
        } else if let Some((_, flag)) = CLEAR.iter().find(|(name, _)| name == option) {
            job.flags &= !flag;
            job.cleared |= flag;
        } else if let Some((_, flags)) = PROPAGATION.iter().find(|(name, _)| name == option) {
            job.propagation.push(*flags);
        } else if let Some((_, set, clear)) = RECURSIVE.iter().find(|(name, ..)| name == option) {
            job.recursive_set = (job.recursive_set & !clear) | set;
            job.recursive_clear = (job.recursive_clear & !set) | clear;
        } else if matches!(option.as_str(), "idmap" | "ridmap" | "tmpcopyup") {
            return Err(SpecError::unsupported(
                format!("{}: {option}", field()),
                "the agent has no such mounts",
            ));
        } else {
            data.push(option);
        }
    }
    let fs_type = mount.typ().as_deref().unwrap_or("");
    job.source = if fs_type == "bind" || job.flags & MS_BIND != 0 {
        bind_source(mount, &mut job.flags, &data)?
    } else if matches!(fs_type, "cgroup" | "cgroup2") {
        MountSource::Cgroup
    } else if FILESYSTEMS.contains(&fs_type) {
        let source = mount.source().as_ref().map_or(fs_type.to_owned(), |path| path.display().to_string());
        MountSource::Filesystem { fs_type: fs_type.to_owned(), source, data: data.join(",") }
    } else {
        return Err(SpecError::unsupported(
            format!("{}: type {fs_type:?}", field()),
            "a container mounts kernel file systems and guest folders only",
        ));
    };
    Ok(job)
}

fn bind_source(mount: &Mount, flags: &mut u64, data: &[&str]) -> Result<MountSource, SpecError> {
    let field = || format!("mounts: {}", mount.destination().display());
    if let Some(option) = data.first() {
        return Err(SpecError::invalid(field(), format!("a bind mount has no option {option}")));
    }
    *flags |= MS_BIND;
    let path: PathBuf = mount.source().clone().unwrap_or_default();
    if !path.is_absolute() {
        return Err(SpecError::invalid(
            field(),
            "the source of a bind mount is an absolute path in the guest",
        ));
    }
    Ok(MountSource::Bind { path })
}

/// Reads `linux.rootfsPropagation`.
pub fn root_propagation(option: Option<&str>) -> Result<Option<u64>, SpecError> {
    match option {
        None | Some("") => Ok(None),
        Some(name) => match PROPAGATION.iter().find(|(known, _)| *known == name) {
            Some((_, flags)) => Ok(Some(*flags)),
            None => {
                Err(SpecError::invalid("linux.rootfsPropagation", format!("{name} is not a propagation")))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<MountJob, SpecError> {
        mount(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn flags_leave_the_file_system_its_own_options() {
        let job = parse(
            r#"{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","strictatime","mode=755","size=65536k"]}"#,
        )
        .unwrap();
        assert_eq!(job.flags, MS_NOSUID | MS_STRICTATIME);
        let data = "mode=755,size=65536k".to_owned();
        assert_eq!(
            job.source,
            MountSource::Filesystem { fs_type: "tmpfs".into(), source: "tmpfs".into(), data }
        );
    }

    #[test]
    fn a_later_option_wins() {
        let job = parse(r#"{"destination":"/a","type":"tmpfs","options":["ro","rw"]}"#).unwrap();
        assert_eq!((job.flags, job.cleared), (0, MS_RDONLY));
    }

    #[test]
    fn recursive_read_only_is_set_below_a_bind_mount() {
        let job =
            parse(r#"{"destination":"/a","source":"/b","options":["rbind","rro","rprivate"]}"#).unwrap();
        assert_eq!(job.recursive_set, attr::RDONLY);
        assert_eq!(job.propagation, [MS_PRIVATE | MS_REC]);
    }

    #[test]
    fn disks_cannot_be_mounted_by_a_spec() {
        for json in [
            r#"{"destination":"/a","type":"ext4","source":"/dev/vda"}"#,
            r#"{"destination":"/a","type":"overlay","source":"overlay"}"#,
        ] {
            assert!(matches!(parse(json), Err(SpecError::Unsupported { .. })), "{json}");
        }
    }

    #[test]
    fn a_relative_bind_source_is_refused() {
        let json = r#"{"destination":"/a","type":"bind","source":"b","options":["rbind"]}"#;
        assert!(matches!(parse(json), Err(SpecError::Invalid { .. })));
    }
}
