//! `theca run` from start to end against a fake keeper: exit codes, stdio, signals, and what is left behind.

use std::io::{Read, Write};
use std::process::Stdio;

use super::fake::{Done, Fake, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost::Message;
use theca_proto::theca::keeper::v1::SandboxOptions;

#[test]
fn output_and_exit_code_are_the_container_s() {
    let fake = Fake::new();
    let done = fake.run(&["--rm"], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (7, "out\n", "err\n"));
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
    let calls = fake.ledger(|ledger| ledger.calls.clone());
    assert_eq!(
        calls,
        ["create", "wait", "start", "delete", "shutdown"],
        "the exit is asked for before the start"
    );
}

#[test]
fn a_killed_container_reports_its_signal() {
    let done = Fake::new().run(&["--rm"], &["sh", "-c", "kill -9 $$"]);
    assert_eq!(done.code, 137);
}

#[test]
fn the_exit_code_is_the_container_s_when_others_cannot_be_listed() {
    let fake = Fake::new();
    let containers = fake.path().join("r/containers");
    // Its own folder can still be removed, but who else is there cannot be told.
    let script = format!("chmod 300 {}; exit 7", containers.display());
    let run = fake.run_command(&["--rm"], &["/bin/sh", "-c", &script]);
    let mut restrained = std::process::Command::new("setpriv");
    if nix::unistd::geteuid().is_root() {
        restrained.args(["--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]);
    }
    restrained.arg("--").arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
    restrained.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = Done::of(restrained.output().unwrap());
    std::fs::set_permissions(&containers, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    assert!(done.err.contains("other containers are left as they are: failed to list"), "{}", done.err);
    assert_eq!(done.code, 7, "{}", done.err);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn input_is_passed_on_to_its_end() {
    let fake = Fake::new();
    let mut child = fake
        .run_command(&["--rm", "-i"], &["sort"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"b\na\nc\n").unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.out.as_str()), (0, "a\nb\nc\n"));
}

#[test]
fn without_i_there_is_no_input() {
    let done = Fake::new().run(&["--rm"], &["cat"]);
    assert_eq!((done.code, done.out.as_str()), (0, ""));
}

#[test]
fn much_output_arrives_whole() {
    let done = Fake::new().run(&["--rm"], &["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]);
    assert_eq!((done.code, done.out.len()), (0, 3_000_000));
}

#[test]
fn a_reader_that_leaves_does_not_disturb_the_container() {
    let fake = Fake::new();
    let mut child = fake
        .run_command(&["--rm"], &["sh", "-c", "yes | head -n 100000; exit 4"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 2]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_command_that_is_not_there_is_127_and_leaves_nothing() {
    let fake = Fake::new();
    let done = fake.run(&["--name", "job"], &["no-such-command"]);
    assert_eq!(done.code, 127, "{}", done.err);
    assert!(
        done.err.starts_with("theca: exec \"no-such-command\"") && done.err.contains("PATH"),
        "{}",
        done.err
    );
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_command_that_cannot_be_executed_is_126_and_leaves_nothing() {
    let fake = Fake::new();
    let done = fake.run(&[], &["/etc/passwd"]);
    assert_eq!(done.code, 126, "{}", done.err);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_keeper_that_fails_is_125_with_its_own_words() {
    let fake = Fake::new();
    fake.break_start("the guest did not boot");
    let cidfile = fake.path().join("cid").display().to_string();
    let done = fake.run(&["--cidfile", &cidfile], &["true"]);
    assert_eq!((done.code, done.err.as_str()), (125, "theca: the guest did not boot\n"));
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
    assert!(!fake.path().join("cid").exists());
}

#[test]
fn signals_reach_the_container() {
    let fake = Fake::new();
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        fake.run_command(&["--rm"], &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(42));
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn the_third_request_to_end_kills() {
    let fake = Fake::new();
    let script = "trap '' INT TERM; echo ready; while :; do sleep 0.05; done";
    let mut child =
        fake.run_command(&["--rm"], &["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    for count in 1..=3 {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let kills =
            || fake.ledger(|ledger| ledger.calls.iter().filter(|call| call.starts_with("kill")).count());
        eventually("the signal is passed on", || kills() == count || child.try_wait().unwrap().is_some());
    }
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

#[test]
fn the_keeper_s_death_is_125_and_leaves_nothing() {
    let mut fake = Fake::new();
    let mut child = fake
        .run_command(&["--rm"], &["sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    fake.kill_keeper();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!(done.code, 125);
    assert!(done.err.contains("the sandbox ended"), "{}", done.err);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_name_is_taken_once() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["--name", "web"], &["true"]).code, 0);
    let second = fake.run(&["--name", "web"], &["true"]);
    assert_eq!(second.code, 125);
    assert!(second.err.contains("\"web\" is taken") && second.err.contains("theca rm web"), "{}", second.err);
    assert_eq!(fake.theca(&["rm", "web"]).out, "web\n");
    assert_eq!(fake.run(&["--name", "web", "--rm"], &["true"]).code, 0);
}

#[test]
fn what_the_sandbox_is_made_of_reaches_the_keeper() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["--rm", "--cpus", "1", "-m", "64m"], &["true"]).code, 0);
    let any = prost_types::Any::decode(fake.start_options().as_slice()).unwrap();
    let options = SandboxOptions::decode(any.value.as_slice()).unwrap();
    assert_eq!((options.vcpus, options.memory_mib), (1, 64));
    assert!(options.ephemeral && options.parent_pid != 0, "it ends with its command");
    assert_eq!(options.exit_command[1], "reap");
}

#[test]
fn the_keeper_is_told_where_this_command_keeps_things() {
    let fake = Fake::new();
    let mut command = fake.run_command(&["--rm"], &["true"]);
    let done = Done::of(command.current_dir(fake.path()).env("THECA_ROOT", "r").output().unwrap());
    assert_eq!(done.code, 0, "{}", done.err);
    let told = std::fs::read_to_string(fake.path().join("data")).unwrap();
    assert_eq!(told.trim_end(), fake.path().join("r").display().to_string(), "it runs in another folder");
}

#[test]
fn bad_input_is_told_and_leaves_nothing() {
    let fake = Fake::new();
    let bundle = fake.path().join("bundle");
    std::fs::create_dir(&bundle).unwrap();
    let bundle = bundle.display().to_string();
    let rootfs = fake.rootfs();
    for (args, words) in [
        (&["run", "--bogus", "x"][..], "unexpected argument '--bogus'"),
        (&["run"], "no image"),
        (&["run", "no-such-image"], "no-such-image"),
        (&["run", "--pull", "never", "Bad:Name:", "x"], "Bad:Name:"),
        (&["run", "--bundle", &bundle], "has no config.json"),
        (&["run", "--bundle", "/nowhere"], "/nowhere"),
        (&["run", "--rootfs", &rootfs], "no command"),
        (&["run", "--memory", "9000x", "--rootfs", &rootfs, "true"], "is not a size"),
        (&["run", "--memory", "900t", "--rootfs", &rootfs, "true"], "this machine has"),
        (&["run", "--memory", "1m", "--rootfs", &rootfs, "true"], "too little"),
        (&["run", "--cpus", "33", "--rootfs", &rootfs, "true"], "no number of processors"),
        (&["run", "--kernel", "/etc/nothing", "--rootfs", &rootfs, "true"], "/etc/nothing"),
        (&["run", "--network", "host", "--rootfs", &rootfs, "true"], "not supported yet"),
        (&["run", "-v", "/a:/b", "--rootfs", &rootfs, "true"], "not supported yet"),
        (&["run", "--name", "a/b", "--rootfs", &rootfs, "true"], "cannot name a container"),
        (&["run", "-it", "--rootfs", &rootfs, "true"], "not a terminal"),
        (&["run", "--cap-add", "FLY", "--rootfs", &rootfs, "true"], "unknown capability"),
        (&["run", "--stop-signal", "FLY", "--rootfs", &rootfs, "true"], "unknown signal"),
        (&["exec", "nobody", "true"], "no such container: nobody"),
        (&["logs", "nobody"], "no such container: nobody"),
        (&["kill", "-s", "FLY", "nobody"], "unknown signal"),
        (&["image", "inspect", "nothing"], "nothing"),
    ] {
        // A pull of a name that no registry can have fails at once, whatever the network.
        let args: Vec<&str> = args
            .iter()
            .map(|&word| if word == "no-such-image" { "127.0.0.1:1/no-such-image" } else { word })
            .collect();
        let done = fake.theca(&args);
        assert_eq!(done.code, 125, "{args:?}: {}", done.err);
        assert!(done.err.contains(words) && done.err.starts_with("theca: "), "{args:?}: {}", done.err);
    }
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}
