//! Flags that are known and not (or not here) obeyed, each with its reason: silence would be a lie.

use anyhow::bail;

use crate::flags::ContainerFlags;

/// Refuses what comes with later capabilities.
pub fn check(flags: &ContainerFlags) -> anyhow::Result<()> {
    if let Some(mode) = flags.network.as_deref().filter(|mode| *mode != "none") {
        bail!(
            "--network {mode} is not supported yet: a container has loopback only until the next capability brings networks; leave it out or use --network none"
        );
    }
    if let Some(port) = flags.publish.first() {
        bail!(
            "--publish {port} is not supported yet: networks are the next capability, and until then a container has loopback only; leave it out"
        );
    }
    if flags.publish_all {
        bail!(
            "--publish-all is not supported yet: networks are the next capability, and until then a container has loopback only; leave it out"
        );
    }
    let volume = flags.volume.first().map(|volume| ("--volume", volume));
    if let Some((flag, volume)) = volume.or(flags.mount.first().map(|mount| ("--mount", mount))) {
        bail!(
            "{flag} {volume} is not supported yet: volumes are the next capability, and until then a container shares no folder with the host; put the files into the image, or use --tmpfs for scratch space"
        );
    }
    Ok(())
}

/// Refuses what a bundle's config.json decides.
pub fn check_with_bundle(flags: &ContainerFlags) -> anyhow::Result<()> {
    let given = [
        ("a command", !flags.image_and_command.is_empty()),
        ("--pull", flags.pull.is_some()),
        ("a part of a processor in --cpus", flags.cpus.quota_us.is_some()),
        ("--shm-size", flags.shm_size.is_some()),
        ("--tty", flags.tty),
        ("--env", !flags.env.is_empty()),
        ("--env-file", !flags.env_file.is_empty()),
        ("--workdir", flags.workdir.is_some()),
        ("--user", flags.user.is_some()),
        ("--hostname", flags.hostname.is_some()),
        ("--entrypoint", flags.entrypoint.is_some()),
        ("--read-only", flags.read_only),
        ("--tmpfs", !flags.tmpfs.is_empty()),
        ("--cap-add", !flags.cap_add.is_empty()),
        ("--cap-drop", !flags.cap_drop.is_empty()),
        ("--ulimit", !flags.ulimit.is_empty()),
        ("--pids-limit", flags.pids_limit.is_some()),
        ("--security-opt", !flags.security_opt.is_empty()),
        ("--sysctl", !flags.sysctl.is_empty()),
        ("--oom-score-adj", flags.oom_score_adj.is_some()),
        ("--annotation", !flags.annotation.is_empty()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            bail!(
                "{flag} has no place beside --bundle: the bundle's config.json says it all; change it there"
            )
        }
        None => Ok(()),
    }
}
