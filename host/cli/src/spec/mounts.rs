//! What is mounted in every container, files of its bundle among it, and which paths of /proc and /sys are hidden or read-only: docker's defaults.

use oci_spec::runtime::{Mount, MountBuilder};

use super::limits::Tmpfs;
use super::names;

/// Destination, type, source, options.
const DEFAULT: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

const SHARED_MEMORY: &str = "/dev/shm";

/// Files that tell too much, or do too much, for a container; masked if they exist.
pub const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Knobs of the kernel that a container may read.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The mounts of a container: the defaults, with `shm_bytes` of shared memory, then the `--tmpfs`. One of these on a
/// default's place takes it. The files of [`names`] come last, for one of these may be on their folder.
pub fn all(shm_bytes: u64, tmpfs: &[Tmpfs], read_only: bool) -> Vec<Mount> {
    let mount = |path: &str, kind: &str, source: &str, options: Vec<String>| {
        MountBuilder::default()
            .destination(path)
            .typ(kind)
            .source(source)
            .options(options)
            .build()
            .unwrap_or_default()
    };
    let size = format!("size={shm_bytes}");
    let defaults = DEFAULT.iter().filter(|(path, ..)| !tmpfs.iter().any(|wanted| wanted.path == *path)).map(
        |(path, kind, source, options)| {
            let extra = (*path == "/dev/shm").then_some(size.as_str());
            let options = options.iter().copied().chain(extra).map(str::to_owned).collect();
            mount(path, kind, source, options)
        },
    );
    let wanted = tmpfs.iter().map(|wanted| mount(&wanted.path, "tmpfs", "tmpfs", wanted.options.clone()));
    let files = names::FILES.iter().map(|file| {
        let options = ["rbind", "rprivate", if read_only { "ro" } else { "rw" }];
        mount(file.path, "bind", file.name, options.map(str::to_owned).into())
    });
    defaults.chain(wanted).chain(files).collect()
}

/// Shared memory becomes the sandbox's, as the container's IPC is.
pub fn share_memory(mounts: &mut [Mount]) {
    for mount in mounts.iter_mut().filter(|mount| mount.destination().as_os_str() == SHARED_MEMORY) {
        let options = ["rbind", "rprivate", "rw"].map(str::to_owned).to_vec();
        mount.set_typ(Some("bind".to_owned()));
        mount.set_source(Some(SHARED_MEMORY.into())).set_options(Some(options));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options<'a>(mounts: &'a [Mount], path: &str) -> Vec<&'a [String]> {
        let on = mounts.iter().filter(|mount| mount.destination().as_os_str() == path);
        on.map(|mount| mount.options().as_ref().unwrap().as_slice()).collect()
    }

    #[test]
    fn shared_memory_has_the_size_asked_for() {
        let mounts = all(1 << 20, &[], false);
        assert_eq!(mounts.len(), DEFAULT.len() + names::FILES.len());
        assert!(options(&mounts, "/dev/shm")[0].contains(&"size=1048576".to_owned()));
    }

    #[test]
    fn files_of_a_read_only_container_are_read_only_and_on_top_of_a_tmpfs() {
        let mounts = all(1 << 20, &["/etc".parse().unwrap()], true);
        let place = |path| mounts.iter().position(|mount| mount.destination().as_os_str() == path).unwrap();
        assert!(place("/etc") < place("/etc/hosts"));
        assert!(options(&mounts, "/etc/hosts")[0].contains(&"ro".to_owned()));
    }

    #[test]
    fn a_tmpfs_takes_the_place_of_a_default() {
        let mounts = all(1 << 20, &["/dev/shm:size=2m".parse().unwrap(), "/tmp".parse().unwrap()], false);
        assert_eq!(mounts.len(), DEFAULT.len() + 1 + names::FILES.len());
        let shm = options(&mounts, "/dev/shm");
        assert!(shm.len() == 1 && shm[0].contains(&"size=2m".to_owned()), "{shm:?}");
    }
}
