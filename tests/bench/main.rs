//! `theca-bench`: Theca beside its peers, measured in one run on one machine.
//!
//! `cargo xtask bench` runs this as root in a test host whose clock counts instructions, where a figure repeats to a few
//! per cent whatever else the machine does. It writes one JSON object to the file named as its argument: seconds in keys
//! that end in `_s` (`_per_s`: a number each second), MiB in keys with `_mib`, and `phases`, the points of one start.

mod clock;
mod daemon;
mod memory;
mod peers;
mod theca;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Where the machine keeps what is run: an OCI layout, a runc bundle, a guest kernel with its initrd.
struct Fixtures {
    layout: PathBuf,
    bundle: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
}

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).context("usage: theca-bench FILE")?;
    let fixtures = Fixtures {
        layout: "/var/lib/theca-testbed/debian".into(),
        bundle: "/var/lib/theca-testbed/bundle".into(),
        kernel: "/usr/lib/theca/vmlinux".into(),
        initrd: "/usr/lib/theca/initrd.cpio".into(),
    };
    let mut figures = Map::new();
    let mut set = |key: &str, value: Value| {
        eprintln!("{key}: {value}");
        figures.insert(key.to_owned(), value);
    };

    theca::import(&fixtures.layout)?;
    set("run_echo_cold_s", json!(theca::run_echo()?));
    set("run_echo_disk_s", json!(theca::run_echo_on_disk()?));
    set("agent_ready_s", json!(theca::agent_ready()?));
    let running = theca::start()?;
    set("exec_s", json!(running.exec()?));
    let sandbox = running.inspect().context("failed to inspect the running container")?;
    set("phases", sandbox.phases());
    set("vmm_mib", json!(memory::resident_mib(sandbox.vmm_pid()?, Some(sandbox.memory_mib()?))?));
    set("keeper_mib", json!(memory::resident_mib(sandbox.keeper_pid()?, None)?));
    set("agent_mib", json!(sandbox.mib("agent_resident_bytes")?));
    set("guest_used_mib", json!(sandbox.mib("guest_used_bytes")?));
    running.remove()?;
    let mut daemon = daemon::Daemon::start(&fixtures.bundle)?;
    set("sandbox_ready_s", json!(daemon.sandbox_ready()?));
    daemon.open()?;
    set("container_start_s", json!(daemon.container_start()?));
    set("exec_rpc_s", json!(daemon.exec()?));
    set("events_per_s", json!(daemon.events_per_second()?));
    set("keeper_idle_mib", json!(daemon.keeper_mib()?));
    daemon.close()?;
    // Idle, but not untouched: what it needs once for all sandboxes is not counted against each.
    let idle = daemon.mib()?;
    set("thecad_mib", json!(idle));
    let (full, keeper) = daemon.with_many(|daemon| Ok((daemon.mib()?, daemon.largest_keeper_mib()?)))?;
    set("thecad_full_mib", json!(full));
    set("thecad_mib_per_sandbox", json!(((full - idle) / daemon::MANY as f64 * 1e3).round() / 1e3));
    set("keeper_full_mib", json!(keeper));
    drop(daemon);
    set("runc_run_s", json!(peers::oci_run("runc", &fixtures.bundle)?));
    set("crun_run_s", json!(peers::oci_run("crun", &fixtures.bundle)?));
    set("qemu_microvm_s", json!(peers::qemu_microvm(&fixtures.kernel, &fixtures.initrd)?));
    std::fs::write(file, Value::Object(figures).to_string()).context("failed to write the figures")
}
