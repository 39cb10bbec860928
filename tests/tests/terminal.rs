//! `-it`: a true terminal inside, and an unharmed one outside.

use std::process::Command;

use theca_tests::{IMAGE, Pty, Theca, fixtures};

/// What a new terminal is set to.
fn fresh_settings() -> String {
    Pty::start(&Command::new("true")).settings()
}

#[test]
fn it_has_a_size_that_follows_and_leaves_settings_as_they_were() {
    let theca = Theca::new();
    let script = "tty; stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut pty = theca.pty(&["run", "--rm", "-it", IMAGE, "sh", "-c", script]);
    let shown = pty.expect("ready");
    assert_eq!(shown, "/dev/pts/0\r\n24 80\r\n");
    assert_ne!(pty.settings(), fresh_settings(), "the terminal outside is raw meanwhile");
    pty.resize(100, 40);
    pty.expect("40 100");
    assert_eq!(pty.wait(), 4);
    assert_eq!(pty.settings(), fresh_settings());
}

#[test]
fn keys_reach_the_container_even_control_c() {
    let theca = Theca::new();
    let script =
        "trap 'echo caught; exit 6' INT; echo ready; read line; echo got $line; while :; do sleep 0.1; done";
    let mut pty = theca.pty(&["run", "--rm", "-it", IMAGE, "sh", "-c", script]);
    pty.expect("ready");
    pty.send("some words\r");
    // Once echoed by the container's terminal, once by the script.
    pty.expect("some words");
    pty.expect("got some words");
    pty.send("\x03");
    pty.expect("caught");
    assert_eq!(pty.wait(), 6);
    assert_eq!(pty.settings(), fresh_settings());
}

#[test]
fn one_can_detach_attach_again_and_exec_beside() {
    let theca = Theca::new();
    let mut pty = theca.pty(&["run", "-it", "--name", "shell", IMAGE, "sh"]);
    pty.expect("# ");
    pty.send("kept=1\r");
    pty.expect("# ");
    pty.send("\x10\x11");
    assert_eq!(pty.wait(), 0);
    assert_eq!(pty.settings(), fresh_settings());
    assert_eq!(theca.inspect("shell")["State"]["Running"], true);

    let mut beside = theca.pty(&["exec", "-it", "shell", "sh", "-c", "tty; stty size; read key; exit $key"]);
    beside.expect("/dev/pts/1\r\n24 80\r\n");
    beside.send("7\r");
    assert_eq!(beside.wait(), 7);

    let mut pty = theca.pty(&["attach", "shell"]);
    pty.send("exit $((kept + 2))\r");
    assert_eq!(pty.wait(), 3);
    assert_eq!(pty.settings(), fresh_settings());
}

#[test]
fn a_container_that_was_left_goes_on_however_much_it_writes() {
    let theca = Theca::empty();
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let script = "echo ready; read word; head -c 1048576 /dev/zero | tr '\\0' x; echo over
        until test -e /end; do echo tick; sleep 0.1; done; exit 5";
    let mut pty = theca.pty(&["run", "-it", "--name", "chatty", "--rootfs", &rootfs, "sh", "-c", script]);
    pty.expect("ready");
    pty.send("go\r\x10\x11");
    assert_eq!(pty.wait(), 0);
    theca.wait_for_log("chatty", "over");
    let mut pty = theca.pty(&["attach", "chatty"]);
    pty.expect("tick");
    theca.exec(&["chatty", "touch", "/end"]).success();
    assert_eq!(pty.wait(), 5);
}

#[test]
fn a_terminal_without_input_joins_the_streams() {
    let theca = Theca::new();
    let output =
        theca.run(&["--rm", "-t", IMAGE, "sh", "-c", "echo out; echo err >&2; echo $TERM; test -t 1"]);
    assert_eq!(output.success(), "out\r\nerr\r\nxterm\r\n");
}
