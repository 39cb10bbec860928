//! Whatever dies while it runs: a word about it, and nothing left behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use theca_tests::{Bundle, IMAGE, Theca, eventually, fixtures, wait_for};

/// What is said of a VM whose VMM got a SIGKILL.
const VMM_KILLED: &str = "the sandbox's VM failed: the VMM was killed by signal 9";

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
fn a_container_that_is_kept_goes_on_when_its_command_is_killed() {
    let theca = Theca::empty();
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let script = "echo ready; until test -e /go; do sleep 0.1; done; head -c 1048576 /dev/zero | tr '\\0' x
        echo over; until test -e /end; do echo tick; sleep 0.1; done; exit 3";
    let running = theca.start(&["run", "--name", "kept", "--rootfs", &rootfs, "sh", "-c", script]);
    theca.wait_for_log("kept", "ready");
    // Until that is on record, the end of the command undoes it all.
    eventually("it to be known to run", || theca.inspect("kept")["State"]["StartedAt"].is_string());
    kill_hard(running.pid());
    // More than all that lies between it and a reader that has gone takes.
    theca.exec(&["kept", "touch", "/go"]).success();
    theca.wait_for_log("kept", "over");
    let mut attached = theca.pty(&["attach", "kept"]);
    attached.expect("tick");
    theca.exec(&["kept", "touch", "/end"]).success();
    assert_eq!(attached.wait(), 3);
    ended(&theca, "kept", 3);
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

#[test]
fn the_vmm_killed_ends_the_container_for_all_who_watch() {
    let theca = Theca::new();
    theca.run(&["-d", "--name", "victim", IMAGE, "sh", "-c", "echo said; sleep 1000"]).success();
    theca.wait_for_log("victim", "said");
    let waiting = theca.start(&["wait", "victim"]);
    let script = "echo joined > /proc/1/fd/1; sleep 1000";
    let executing = theca.start(&["exec", "victim", "sh", "-c", script]);
    theca.wait_for_log("victim", "joined");
    kill_hard(pid(&theca, "victim", "vmm_pid"));
    assert_eq!(waiting.wait().success(), "137\n");
    executing.wait().exits(137);
    assert_eq!(theca.cli(&["logs", "victim"]).success(), "said\njoined\n");
    assert_eq!(theca.inspect("victim")["State"]["Error"], VMM_KILLED);
    ended(&theca, "victim", 137);
}

#[test]
fn the_vmm_killed_is_told_by_the_command_that_waits() {
    let theca = Theca::new();
    for flags in [&["--rm"][..], &[]] {
        let running = theca.start(&[&["run"], flags, &[IMAGE, "sleep", "1000"]].concat());
        let vmm = wait_for("the container to run", || {
            let id = theca.cli(&["ps", "-q"]).success().trim().to_owned();
            (!id.is_empty()).then(|| pid(&theca, &id, "vmm_pid"))
        });
        kill_hard(vmm);
        running.wait().exits(137).says(VMM_KILLED);
    }
    let left = theca.cli(&["ps", "-a", "-q"]).success().trim().to_owned();
    ended(&theca, &left, 137);
}

#[test]
fn a_guest_that_panics_ends_its_container_and_says_why() {
    let theca = Theca::new();
    // Memory outside any limit of the container's: the guest as a whole has none left, which this option makes fatal.
    let mut bundle = Bundle::new(&["sh", "-c", "echo ready; dd if=/dev/zero of=/fill/x bs=1M count=400"]);
    let mount = json!({ "destination": "/fill", "type": "tmpfs", "source": "tmpfs", "options": ["size=1g"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(mount);
    let folder = bundle.path().to_string_lossy().into_owned();
    let panics = ["--memory", "64m", "--kernel-cmdline", "sysctl.vm.panic_on_oom=1", "--bundle", &folder];
    let output = theca.run(&[&["--name", "mad"], &panics[..]].concat());
    output.exits(137).says("the guest's kernel panicked; the guest's last words:\n").says("Kernel panic");
    assert_eq!(output.stdout, "ready\n");
    assert!(theca.cli(&["console", "mad"]).success().contains("Kernel panic"));
    ended(&theca, "mad", 137);
}

#[test]
fn a_container_that_shares_the_agents_pid_namespace_cannot_kill_it() {
    let theca = Theca::empty();
    let script = "tr '\\0' ' ' < /proc/1/cmdline; for signal in KILL TERM SEGV STOP; do kill -$signal 1; done; echo alive";
    let mut bundle = Bundle::new(&["sh", "-c", script]);
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let output = bundle.theca(&theca);
    assert!(output.success().contains("alive"), "{output}");
    assert!(output.stdout.contains("init"), "{output}");
}

#[test]
fn a_container_killed_ends_with_137_and_no_complaint() {
    let theca = Theca::new();
    let running = theca.start(&["run", "--name", "target", IMAGE, "sh", "-c", "echo ready; sleep 1000"]);
    theca.wait_for_log("target", "ready");
    // Inside, nobody kills the first process of a pid namespace, as everywhere.
    theca.exec(&["target", "sh", "-c", "kill -9 1"]).success();
    theca.cli(&["kill", "target"]).success();
    let output = running.wait();
    assert_eq!((output.exits(137).stdout.as_str(), output.stderr.as_str()), ("ready\n", ""));
    ended(&theca, "target", 137);
}
