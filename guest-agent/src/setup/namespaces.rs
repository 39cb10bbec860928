//! Entering namespaces, and the settings that live in them.
//!
//! Settings are written through the guest's `/proc/sys`, which shows every process its own namespaces' values.

use std::fs;
use std::fs::File;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

use super::Result;
use super::job::{Clock, ContainerJob};
use crate::process::handshake::Attempt;
use crate::sys::network;

/// Joins and makes the container's namespaces and sets them up.
pub fn enter(job: &ContainerJob) -> Result<()> {
    for namespace in &job.joined_namespaces {
        let action = || format!("join the namespace {}", namespace.path.display());
        let file = File::open(&namespace.path).attempt(action)?;
        setns(&file, CloneFlags::from_bits_retain(namespace.kind)).attempt(action)?;
    }
    let new = CloneFlags::from_bits_retain(job.new_namespaces);
    unshare(new).attempt(|| "make the container's namespaces".to_owned())?;
    if new.contains(CloneFlags::CLONE_NEWNET) {
        network::loopback_up().attempt(|| "bring the loopback interface up".to_owned())?;
    }
    for (clock, offset) in &job.time_offsets {
        let name = match clock {
            Clock::Monotonic => "monotonic",
            Clock::Boottime => "boottime",
        };
        let line = format!("{name} {} {}", offset.secs, offset.nanosecs);
        fs::write("/proc/self/timens_offsets", &line).attempt(|| format!("shift the clocks by {line}"))?;
    }
    if let Some(name) = &job.hostname {
        sethostname(name).attempt(|| format!("set the host name to {name:?}"))?;
    }
    if let Some(name) = &job.domainname {
        fs::write("/proc/sys/kernel/domainname", name)
            .attempt(|| format!("set the domain name to {name:?}"))?;
    }
    for (path, value) in &job.sysctls {
        let file = format!("/proc/sys/{path}");
        fs::write(&file, value).attempt(|| format!("set {file} to {value:?}"))?;
    }
    Ok(())
}
