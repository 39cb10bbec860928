//! What Theca is compared with: the same program under plain OCI runtimes, the same guest under QEMU.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use vsock::{VMADDR_CID_ANY, VsockListener};

use crate::clock;

/// The host port on which Theca's agent says that it is ready.
const READY_PORT: u32 = 1025;
/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(60);

/// `RUNTIME run` of `echo` in a bundle: create, start, wait and delete, without a daemon.
pub fn oci_run(runtime: &str, bundle: &Path) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let rootfs = bundle.join("rootfs");
    let text = std::fs::read_to_string(bundle.join("config.json")).context("failed to read the bundle")?;
    let mut config: Value = serde_json::from_str(&text)?;
    config["process"]["args"] = json!(["echo", "hello"]);
    config["process"]["terminal"] = json!(false);
    config["root"]["path"] = json!(rootfs);
    std::fs::write(folder.path().join("config.json"), config.to_string())?;
    clock::median(|| {
        let mut command = Command::new(runtime);
        command.arg("run").arg("--bundle").arg(folder.path()).arg("bench-peer");
        let begin = Instant::now();
        let output = clock::output(&mut command)?;
        let seconds = begin.elapsed().as_secs_f64();
        ensure!(
            output.stdout == b"hello\n",
            "{runtime} printed {:?}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(seconds)
    })
}

/// QEMU's microvm machine with KVM booting Theca's kernel and initrd: process start → agent says ready.
pub fn qemu_microvm(kernel: &Path, initrd: &Path) -> Result<f64> {
    let listener = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, READY_PORT)
        .context("failed to listen on vsock; is the module vhost_vsock loaded?")?;
    clock::median(|| {
        let begin = Instant::now();
        let machine = "microvm,x-option-roms=off,pit=on,pic=on,isa-serial=off,rtc=off,acpi=off";
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", machine, "-accel", "kvm", "-cpu", "host", "-m", "128M"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        command.args(["-append", "quiet reboot=k panic=-1 console=hvc0"]);
        // Without a console the agent's first process has no standard streams, and Rust's runtime ends it.
        command.args(["-chardev", "null,id=console", "-device", "virtio-serial-device"]);
        command.args(["-device", "virtconsole,chardev=console"]);
        command.args(["-device", "vhost-vsock-device,guest-cid=77"]);
        let _qemu = Guard(command.stdin(Stdio::null()).spawn().context("failed to start QEMU")?);
        wait_for(&listener)?;
        let (mut agent, _) = listener.accept()?;
        let mut first = [0];
        agent.read_exact(&mut first).context("the guest's agent hung up before it was ready")?;
        Ok(begin.elapsed().as_secs_f64())
    })
}

/// Waits until a guest dials, at most [`BOOT`].
fn wait_for(listener: &VsockListener) -> Result<()> {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(BOOT)?)?;
    ensure!(ready == 1, "QEMU's guest did not say that it is ready within {} s", BOOT.as_secs());
    Ok(())
}

/// Ends the process when it goes out of scope.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
