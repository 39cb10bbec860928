//! Flags that people know from docker and podman and that Theca does not have, each with its reason.

const NETWORK: &str = "a container has loopback only; networks come with the next capability";
const VOLUMES: &str = "a container shares no folder with the host; volumes come with the next capability";
const NAMESPACES: &str = "the VM is the boundary, and a container's namespaces in it are its own";
const DEVICES: &str = "a guest has no devices of the host";
const LIMITS: &str = "limits are set with --cpus, --memory, --pids-limit and --ulimit";
const HEALTH: &str = "there is no daemon that could watch a container's health";

const FLAGS: [(&str, &str); 42] = [
    ("--add-host", NETWORK),
    ("--cgroupns", NAMESPACES),
    ("--cgroup-parent", "the container's cgroup is in the guest"),
    ("--cpu-period", LIMITS),
    ("--cpu-quota", LIMITS),
    ("--cpu-shares", LIMITS),
    ("--cpuset-cpus", LIMITS),
    ("--cpuset-mems", LIMITS),
    ("--device", DEVICES),
    ("--dns", NETWORK),
    ("--dns-search", NETWORK),
    ("--expose", NETWORK),
    ("--gpus", DEVICES),
    ("--health-cmd", HEALTH),
    ("--health-interval", HEALTH),
    ("--init", "put a small init such as tini into the image"),
    ("--ip", NETWORK),
    ("--ipc", NAMESPACES),
    ("--isolation", NAMESPACES),
    ("--link", NETWORK),
    ("--log-driver", "output is kept in one log, which `theca logs` shows"),
    ("--log-opt", "output is kept in one log, which `theca logs` shows"),
    ("--mac-address", NETWORK),
    ("--memory-reservation", LIMITS),
    ("--memory-swap", "a guest has no swap"),
    ("--memory-swappiness", "a guest has no swap"),
    ("--network-alias", NETWORK),
    ("--no-healthcheck", "leave it out: health checks of images are not run"),
    ("--oom-kill-disable", "the guest's kernel cannot do that with cgroup v2"),
    ("--pid", NAMESPACES),
    ("--platform", "images run on this machine's own architecture"),
    ("--pod", "pods come with containerd"),
    (
        "--privileged",
        "the VM is the boundary; --cap-add ALL --security-opt seccomp=unconfined gives all rights in it",
    ),
    ("--restart", "there is no daemon that could restart a container; a service manager can run `theca run`"),
    ("--runtime", "the runtime is Theca"),
    ("--storage-opt", "the writable disk's size is set with --storage-size"),
    ("--userns", NAMESPACES),
    ("--uts", NAMESPACES),
    ("--volume-driver", VOLUMES),
    ("--volumes-from", VOLUMES),
    ("--group-add", "give the groups in the image's /etc/group"),
    ("--attach", "output is attached unless --detach is given"),
];

/// Why a flag is not there; `None` for one that nobody knows.
pub fn reason(flag: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(known, _)| *known == flag).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_that_is_there_is_explained_away() {
        let mut command = crate::args::command();
        command.build();
        for verb in ["run", "create"] {
            let flags = command.find_subcommand(verb).unwrap().get_arguments();
            let known: Vec<_> =
                flags.filter_map(|flag| flag.get_long()).map(|name| format!("--{name}")).collect();
            assert!(FLAGS.iter().all(|(flag, _)| !known.iter().any(|name| name == flag)), "{verb}");
        }
    }
}
