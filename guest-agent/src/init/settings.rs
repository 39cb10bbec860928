//! Kernel settings of the guest.

use std::fs;
use std::path::Path;

use nix::unistd::sethostname;

/// Files below `/proc/sys`, what to write, and why.
const SETTINGS: &[(&str, &str)] = &[
    // The log and its addresses are the agent's; the host asks the agent for it.
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    // Only the agent loads BPF programs.
    ("kernel/unprivileged_bpf_disabled", "1"),
    // As on any distribution: no tricks with links and pipes in shared folders.
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "2"),
    // A bug in the kernel ends the guest; going on would serve nobody.
    ("kernel/panic_on_oops", "1"),
];

/// Changes of cgroups, network namespaces and mounts wait until every processor has let go of what they change. Few
/// processors are quickly asked; unasked, each wait is one of timer ticks.
const DO_NOT_WAIT_FOR_TICKS: (&str, &str) = ("/sys/kernel/rcu_expedited", "1");

/// Applies them. A kernel that has no such setting needs none.
pub fn apply() {
    let (path, value) = DO_NOT_WAIT_FOR_TICKS;
    write(Path::new(path), value);
    for (name, value) in SETTINGS {
        write(&Path::new("/proc/sys").join(name), value);
    }
    if let Err(error) = sethostname("theca") {
        tracing::warn!(%error, "the host name was refused");
    }
}

fn write(path: &Path, value: &str) {
    if path.exists()
        && let Err(error) = fs::write(path, value)
    {
        tracing::warn!(path = %path.display(), %error, "a kernel setting was refused");
    }
}
