//! Deaths that take some arranging: the agent's own, and the keeper's before its container runs.

use nix::sys::signal::{Signal, kill};
use serde_json::json;
use theca_tests::bundle::DESTROY_THE_AGENT;
use theca_tests::{Bundle, IMAGE, Theca, eventually};

/// What the only guest has printed, from its file: who creates a container holds its lock.
fn console(theca: &Theca) -> String {
    let sandboxes = std::fs::read_dir(theca.state().join("default")).into_iter().flatten().flatten();
    let logs = sandboxes.map(|sandbox| std::fs::read(sandbox.path().join("console.log")).unwrap_or_default());
    logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect()
}

fn kill_the_keeper(theca: &Theca) {
    let keepers = theca.processes("containerd-shim");
    assert!(!keepers.is_empty(), "no keeper");
    for keeper in keepers {
        kill(keeper, Signal::SIGKILL).unwrap();
    }
}

/// Asserts that nothing is left, not even the record of a container that never ran.
#[track_caller]
fn nothing_is_left(theca: &Theca) {
    assert_eq!(theca.cli(&["ps", "-a", "-q"]).success(), "");
    eventually("all to be gone", || theca.leaks().is_empty());
}

#[test]
fn an_agent_that_dies_ends_the_container_for_all_who_watch() {
    let theca = Theca::empty();
    let bundle = Bundle::trusted(&["sh", "-c", "echo ready; exec sleep 1000"]);
    let folder = bundle.path().to_string_lossy().into_owned();
    theca.run(&["-d", "--name", "doomed", "--bundle", &folder]).success();
    theca.wait_for_log("doomed", "ready");
    let waiting = theca.start(&["wait", "doomed"]);
    let executing = theca.start(&["exec", "doomed", "sh", "-c", "echo joined; exec sleep 1000"]);
    executing.expect("joined");

    theca.exec(&["doomed", "sh", "-c", DESTROY_THE_AGENT]).exits(137);
    assert_eq!(waiting.wait().success(), "137\n");
    executing.wait().exits(137);
    let state = theca.inspect("doomed")["State"].take();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &137.into()), "{state:#}");
    let reason = state["Error"].as_str().unwrap();
    assert!(reason.contains("the guest's kernel panicked"), "{reason}");
    assert!(theca.cli(&["console", "doomed"]).success().contains("Attempted to kill init"));
    theca.cli(&["rm", "doomed"]).success();
    nothing_is_left(&theca);
}

#[test]
fn a_keeper_killed_while_its_guest_boots_leaves_nothing() {
    let theca = Theca::new();
    let running = theca.start(&["run", "--name", "early", IMAGE, "sleep", "1000"]);
    // The guest takes longer to boot than this to be seen.
    eventually("the VMM", || !theca.processes("theca-vmm").is_empty());
    kill_the_keeper(&theca);
    let output = running.wait();
    output.exits(125).says("the sandbox ended while it was asked to create the container");
    nothing_is_left(&theca);
}

#[test]
fn a_keeper_killed_while_it_creates_leaves_nothing() {
    let theca = Theca::empty();
    // A hook that lasts keeps the container from being there. It runs in the guest, which has no program but the image's:
    // this is where the agent mounts that, no place that a user is promised.
    let shell = "/run/theca/disks/0/bin/sh";
    let script = "echo the hook runs > /dev/console; exec /run/theca/disks/0/bin/sleep 1000";
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["hooks"] = json!({ "createRuntime": [{ "path": shell, "args": ["sh", "-c", script] }] });
    let folder = bundle.path().to_string_lossy().into_owned();
    let running = theca.start(&["run", "--name", "half", "--bundle", &folder]);
    eventually("the hook", || console(&theca).contains("the hook runs"));
    kill_the_keeper(&theca);
    let output = running.wait();
    output.exits(125).says("the sandbox ended while it was asked to create the container");
    nothing_is_left(&theca);
}
