//! The verbs on containers that outlive the command that made them.

use std::os::unix::fs::MetadataExt;

use theca_tests::{IMAGE, Theca, eventually, fixtures};

/// Runs until it is asked to end, which it does with 3.
const SERVER: &str = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";

/// Takes, in one system call, more memory than a guest of 64 MiB has free, but not more than it has. One that takes it bit by bit has
/// its own program dropped and reread for each page before the kernel gives up, which takes minutes where processors are emulated.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=40M count=1";

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
fn what_a_container_deletes_goes_back_to_the_host() {
    let theca = Theca::new();
    let script = "dd if=/dev/zero of=/root/big bs=1M count=40 2>/dev/null; sync; echo full; sleep 1000";
    theca.run(&["-d", "--name", "eraser", IMAGE, "sh", "-c", script]).success();
    theca.wait_for_log("eraser", "full");
    let id = theca.inspect("eraser")["Id"].as_str().unwrap().to_owned();
    let disk = theca.root().join("containers").join(id).join("disk.img");
    let mebibytes = || (disk.metadata().unwrap().blocks() * 512) >> 20;
    assert!(mebibytes() >= 40, "{} MiB", mebibytes());
    theca.exec(&["eraser", "sh", "-c", "rm /root/big; sync"]).success();
    eventually("the blocks to be free again", || mebibytes() < 20);
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
fn logs_of_a_span_of_time() {
    let theca = Theca::new();
    let script = "echo one; sleep 1; echo two; sleep 1; echo three";
    theca.run(&["--name", "talker", IMAGE, "sh", "-c", script]).success();
    let logs = |args: &[&str]| theca.cli(&[&["logs"], args, &["talker"]].concat());
    let stamped = logs(&["-t"]).success().to_owned();
    let second = stamped.lines().find_map(|line| line.strip_suffix(" two")).expect(&stamped);
    // A time that was shown is that of its line.
    assert_eq!(logs(&["--since", second]).success(), "two\nthree\n");
    assert_eq!(logs(&["--until", second]).success(), "one\ntwo\n");
    assert_eq!(logs(&["-f", "--since", second, "--until", second]).success(), "two\n");
    assert_eq!(logs(&["--tail", "1", "--until", second]).success(), "two\n");
    assert_eq!(logs(&["--since", "1h", "--until", "0s"]).success(), "one\ntwo\nthree\n");
    assert_eq!(logs(&["--until", "1h"]).success(), "");
    assert_eq!(logs(&["--since", "2100-01-01"]).success(), "");
    for flag in ["--since", "--until"] {
        logs(&[flag, "yesterday"])
            .exits(125)
            .says("\"yesterday\" is no point in time: use 2026-01-31T12:00:00Z");
    }
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

#[test]
fn a_kill_for_memory_is_told() {
    let theca = Theca::new();
    theca.run(&["--name", "hog", "--memory", "64m", IMAGE, "sh", "-c", &format!("exec {HOG}")]).exits(137);
    assert_eq!(theca.inspect("hog")["State"]["OOMKilled"], true);
    let script = format!("{HOG}; echo hog ended with $?; exec sleep 1000");
    theca.run(&["-d", "--name", "host", "--memory", "64m", IMAGE, "sh", "-c", &script]).success();
    theca.wait_for_log("host", "hog ended with 137");
    // The kernel tells it by another way than the shell.
    eventually("a kill in a container that still runs to be told", || {
        theca.inspect("host")["State"]["OOMKilled"] == true
    });
    assert_eq!(theca.inspect("host")["State"]["Running"], true);
}

#[test]
fn an_exec_that_dies_with_its_container_is_told_so() {
    let theca = Theca::new();
    theca.run(&["-d", "--name", "web", IMAGE, "sh", "-c", SERVER]).success();
    theca.wait_for_log("web", "ready");
    let exec = theca.start(&["exec", "web", "sh", "-c", "echo begun > /proc/1/fd/1; exec sleep 1000"]);
    theca.wait_for_log("web", "begun");
    theca.cli(&["stop", "web"]).success();
    exec.wait().exits(137);
    assert_eq!(theca.inspect("web")["State"]["ExitCode"], 3);
}

#[test]
fn a_folder_that_changed_between_two_starts_is_run_as_it_is() {
    let theca = Theca::empty();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let rootfs = folder.path().join("rootfs");
    let busybox = fixtures::busybox_rootfs();
    theca_tests::Invocation::new("cp", &["-a".as_ref(), busybox.as_os_str(), rootfs.as_os_str()])
        .run()
        .success();
    let script = "ls /added; echo more >> /kept; cat /kept";
    let create = ["create", "--name", "web", "--rootfs", &rootfs.to_string_lossy(), "sh", "-c", script];
    theca.cli(&create).success();
    theca.cli(&["start", "-a", "web"]).exits(0).says("/added");
    for number in 0..50 {
        std::fs::create_dir_all(rootfs.join(format!("added/{number}"))).unwrap();
    }
    assert!(theca.cli(&["start", "-a", "web"]).success().ends_with("49\n5\n6\n7\n8\n9\nmore\nmore\n"));
}
