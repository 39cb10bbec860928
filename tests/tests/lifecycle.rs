//! The verbs on containers that outlive the command that made them.

use theca_tests::{IMAGE, Theca, eventually};

/// Runs until it is asked to end, which it does with 3.
const SERVER: &str = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";

fn state(theca: &Theca, container: &str) -> String {
    theca.inspect(container)["State"]["Status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_container_is_created_started_paused_resumed_stopped_and_removed() {
    let theca = Theca::new();
    theca.cli(&["create", "--name", "web", IMAGE, "sh", "-c", SERVER]).success();
    assert_eq!(state(&theca, "web"), "created");
    theca.cli(&["start", "web"]).success();
    theca.wait_for_log("web", "ready");
    assert_eq!(state(&theca, "web"), "running");

    theca.cli(&["pause", "web"]).success();
    assert_eq!(state(&theca, "web"), "paused");
    theca.exec(&["web", "true"]).exits(125).says("paused");
    theca.cli(&["resume", "web"]).success();
    theca.exec(&["web", "true"]).success();

    theca.cli(&["rm", "web"]).exits(125).says("is running");
    theca.cli(&["stop", "web"]).success();
    let listed = theca.cli(&["ps", "-a", "--format", "json"]).json()[0].take();
    assert_eq!(
        (&listed["Names"], &listed["State"], &listed["ExitCode"]),
        (&"web".into(), &"exited".into(), &3.into())
    );
    assert_eq!(theca.cli(&["logs", "web"]).success(), "ready\nbye\n");
    theca.cli(&["rm", "web"]).success();
    eventually("nothing to be left", || theca.leaks().is_empty());
}

#[test]
fn what_a_container_wrote_is_there_when_it_starts_again() {
    let theca = Theca::new();
    let script = "test -e /root/kept && echo again; echo kept > /root/kept; rm -f /etc/issue; ls /etc/issue";
    let first = theca.run(&["--name", "disk", IMAGE, "sh", "-c", script]);
    assert_eq!(first.exits(2).stdout, "");
    let second = theca.cli(&["start", "-a", "disk"]);
    assert_eq!(second.exits(2).stdout, "again\n");
}

#[test]
fn a_detached_container_outlives_the_command_and_is_waited_for() {
    let theca = Theca::new();
    let id = theca.run(&["-d", "--name", "job", IMAGE, "sh", "-c", SERVER]).success().trim().to_owned();
    theca.wait_for_log("job", "ready");
    let inspected = theca.inspect("job");
    assert_eq!((&inspected["Id"], &inspected["State"]["Running"]), (&id.clone().into(), &true.into()));
    assert!(inspected["Sandbox"]["vmm_pid"].as_i64().is_some_and(|pid| pid > 1), "{inspected:#}");
    assert!(theca.cli(&["console", "job"]).success().contains("Linux version"));

    let waiting = theca.start(&["wait", &id[..12]]);
    theca.cli(&["kill", "--signal", "TERM", "job"]).success();
    assert_eq!(waiting.wait().success(), "3\n");
    assert_eq!(theca.inspect("job")["State"]["ExitCode"], 3);
    eventually("the VM to go with its container", || theca.processes("theca-vmm").is_empty());
}

#[test]
fn one_that_does_not_listen_is_killed() {
    let theca = Theca::new();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    theca.run(&["-d", "--name", "deaf", IMAGE, "sh", "-c", deaf]).success();
    theca.wait_for_log("deaf", "ready");
    theca.cli(&["stop", "--timeout", "1", "deaf"]).success();
    assert_eq!(theca.cli(&["wait", "deaf"]).success(), "137\n");
}

#[test]
fn a_detached_container_with_rm_removes_itself() {
    let theca = Theca::new();
    theca.run(&["-d", "--rm", IMAGE, "true"]).success();
    eventually("the container to be gone", || theca.leaks().is_empty());
}

#[test]
fn logs_tell_streams_apart_and_follow_to_the_end() {
    let theca = Theca::new();
    let script = "echo one; echo two >&2; sleep 1; echo three; exit 4";
    theca.run(&["-d", "--name", "talker", IMAGE, "sh", "-c", script]).success();
    let followed = theca.cli(&["logs", "-f", "talker"]);
    assert_eq!((followed.success(), &*followed.stderr), ("one\nthree\n", "two\n"));
    assert_eq!(theca.cli(&["logs", "--tail", "1", "talker"]).success(), "three\n");
    let stamped = theca.cli(&["logs", "-t", "-n", "1", "talker"]).success().to_owned();
    assert!(stamped.starts_with("20") && stamped.ends_with("Z three\n"), "{stamped}");
}

#[test]
fn attach_joins_input_and_output_and_repeats_the_exit_code() {
    let theca = Theca::new();
    let script = "read line; echo \"read $line\"; read line; exit 6";
    theca.run(&["-d", "-i", "--name", "reader", IMAGE, "sh", "-c", script]).success();
    let first = theca.command(&["attach", "reader"]).input("hello\n").start();
    theca.wait_for_log("reader", "read hello");
    let second = theca.command(&["attach", "reader"]).input("bye\n").start();
    assert_eq!(second.wait().exits(6).stdout, "");
    assert_eq!(first.wait().exits(6).stdout, "read hello\n");
}
