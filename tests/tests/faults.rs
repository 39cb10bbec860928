//! Whatever dies, and whatever is broken: a word about it, and nothing left behind.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use theca_tests::{IMAGE, Invocation, Theca, eventually, fixtures};

fn pid(theca: &Theca, container: &str, key: &str) -> Pid {
    let pid = theca.inspect(container)["Sandbox"][key].as_i64().and_then(|pid| pid.try_into().ok());
    Pid::from_raw(pid.unwrap_or_else(|| panic!("{container} has no {key}")))
}

fn kill_hard(pid: Pid) {
    kill(pid, Signal::SIGKILL).unwrap_or_else(|error| panic!("failed to kill {pid}: {error}"));
}

/// Asserts that a container is known as ended with this code, for a reason that says this, and that it goes.
#[track_caller]
fn ended(theca: &Theca, container: &str, code: i32) {
    let state = theca.inspect(container)["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &code.into()), "{state:#}");
    theca.cli(&["rm", container]).success();
    eventually("all to be gone", || theca.leaks().is_empty());
}

#[test]
fn the_command_killed_takes_its_container_along() {
    let theca = Theca::new();
    let running = theca.start(&["run", "--rm", IMAGE, "sleep", "1000"]);
    eventually("the container to run", || !theca.cli(&["ps", "-q"]).success().is_empty());
    kill_hard(running.pid());
    eventually("all to be gone", || theca.leaks().is_empty());
}

#[test]
fn the_command_killed_while_it_starts_leaves_nothing() {
    let theca = Theca::new();
    for program in ["containerd-shim", "theca-vmm"] {
        let running = theca.start(&["run", "--rm", IMAGE, "sleep", "1000"]);
        eventually(program, || !theca.processes(program).is_empty());
        kill_hard(running.pid());
        eventually("all processes to be gone", || theca.processes("").is_empty());
        // The next command tidies what nobody was left to tidy.
        assert_eq!(theca.cli(&["ps", "-a", "-q"]).success(), "");
        eventually("nothing to be left", || theca.leaks().is_empty());
    }
}

#[test]
fn the_keeper_killed_ends_the_vm_and_the_container() {
    let theca = Theca::new();
    theca.run(&["-d", "--name", "orphan", IMAGE, "sleep", "1000"]).success();
    kill_hard(pid(&theca, "orphan", "keeper_pid"));
    eventually("the VM to end", || theca.processes("theca-vmm").is_empty());
    theca.exec(&["orphan", "true"]).exits(125).says("not running");
    ended(&theca, "orphan", 137);
}

/// A file system of a few megabytes as `THECA_ROOT`, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let options = format!("size={size}");
        Invocation::new("mount", &["-t", "tmpfs", "-o", &options, "none", &folder.path().to_string_lossy()])
            .run()
            .success();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn used(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Invocation::new("umount", &["--lazy", &*self.path().to_string_lossy()]).run();
    }
}

#[test]
fn a_full_disk_keeps_nothing_of_an_image() {
    let (theca, small) = (Theca::empty(), SmallDisk::new("24m"));
    let layout = fixtures::debian_layout().to_string_lossy().into_owned();
    let output =
        theca.command(&["image", "import", "--name", IMAGE, &layout]).env("THECA_ROOT", small.path()).run();
    output.exits(125).says("no space left").says("THECA_ROOT");
    assert!(small.used() < 1 << 20, "{} bytes are left behind", small.used());
}

#[test]
fn a_full_disk_is_an_error_inside_and_no_more() {
    let (theca, small) = (Theca::empty(), SmallDisk::new("24m"));
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let script = "dd if=/dev/zero of=/root/big bs=1M count=40 && sync /root/big && echo fits; echo alive";
    let output = theca
        .command(&["run", "--rm", "--rootfs", &rootfs, "sh", "-c", script])
        .env("THECA_ROOT", small.path())
        .run();
    assert_eq!(output.success(), "alive\n");
    assert_eq!(std::fs::read_dir(small.path().join("containers")).unwrap().count(), 0);
}
