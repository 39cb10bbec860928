//! Ctrl-C, at a terminal and as the signal that it is elsewhere: before the container runs it ends the command, then it is
//! the container's.

use nix::sys::signal::Signal;
use theca_tests::{IMAGE, Pty, Theca, eventually};

const CTRL_C: &str = "\x03";

/// Asserts that nothing is left, not even a container that has ended.
#[track_caller]
fn nothing_left(theca: &Theca) {
    assert_eq!(theca.cli(&["ps", "-a", "-q"]).success(), "");
    eventually("nothing to be left", || theca.leaks().is_empty());
}

#[test]
fn a_run_interrupted_while_it_starts_leaves_nothing() {
    let theca = Theca::new();
    for program in ["containerd-shim", "theca-vmm"] {
        let running = theca.start(&["run", IMAGE, "sleep", "1000"]);
        eventually(program, || !theca.processes(program).is_empty());
        running.signal(Signal::SIGINT);
        running.wait().exits(130).says("interrupted by signal 2 before the container started");
        nothing_left(&theca);
    }
}

#[test]
fn a_run_on_a_terminal_interrupted_while_it_starts_leaves_nothing() {
    let theca = Theca::new();
    let mut pty = theca.pty(&["run", "-it", IMAGE, "sh"]);
    eventually("the VM to start", || !theca.processes("theca-vmm").is_empty());
    let before = Pty::start(&std::process::Command::new("true")).settings();
    pty.send(CTRL_C);
    assert_eq!(pty.wait(), 130);
    assert_eq!(pty.settings(), before);
    nothing_left(&theca);
}

#[test]
fn a_container_interrupted_ends_as_it_likes() {
    let theca = Theca::new();
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done";
    let running = theca.start(&["run", "--rm", IMAGE, "sh", "-c", script]);
    running.expect("ready");
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().exits(9).stdout, "ready\ncaught\n");
    nothing_left(&theca);

    let mut pty = theca.pty(&["run", "--rm", "-it", IMAGE, "sh", "-c", script]);
    pty.expect("ready");
    pty.send(CTRL_C);
    pty.expect("caught");
    assert_eq!(pty.wait(), 9);
    nothing_left(&theca);
}

#[test]
fn a_container_that_is_kept_is_left_the_third_time() {
    let theca = Theca::new();
    let script = "trap '' INT; echo ready; while :; do echo tick; sleep 0.2; done";
    let running = theca.start(&["run", "--name", "kept", IMAGE, "sh", "-c", script]);
    running.expect("ready");
    for _ in 0..3 {
        running.signal(Signal::SIGINT);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    running.wait().exits(130).says("runs on without this command");
    assert_eq!(theca.inspect("kept")["State"]["Running"], true);

    let attached = theca.start(&["attach", "--sig-proxy=false", "kept"]);
    attached.expect("tick");
    attached.signal(Signal::SIGINT);
    attached.wait().exits(0);
    assert_eq!(theca.inspect("kept")["State"]["Running"], true);
    theca.cli(&["rm", "-f", "kept"]).success();
}

#[test]
fn a_container_that_does_not_listen_is_killed_the_third_time() {
    let theca = Theca::new();
    let running = theca.start(&["run", "--rm", IMAGE, "sh", "-c", "trap '' INT; echo ready; sleep 1000"]);
    running.expect("ready");
    for _ in 0..3 {
        running.signal(Signal::SIGINT);
        // Signals of a kind that come at once are one.
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert_eq!(running.wait().exits(137).stderr, "");
    nothing_left(&theca);
}
