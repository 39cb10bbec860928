//! Signals to a command that is joined to a container: which go on to it, and what ends the command.

use std::io::Read;
use std::process::{Child, Stdio};

use super::fake::{Done, Fake, eventually};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A container that no signal but SIGKILL ends.
const STUBBORN: &str =
    "trap '' 1 2 5 6 10 14 15 16 18 20 24 25 26 27 29 30; echo ready; while :; do sleep 0.05; done";

fn send(child: &Child, signal: i32) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::try_from(signal).unwrap()).unwrap();
}

/// The signals that the keeper was asked to send.
fn sent(fake: &Fake) -> Vec<String> {
    fake.ledger(|ledger| ledger.calls.iter().filter(|call| call.starts_with("kill ")).cloned().collect())
}

/// Sends a signal and waits until it has been passed on.
fn send_and_see(fake: &Fake, child: &Child, signal: i32) {
    let before = sent(fake).len();
    send(child, signal);
    eventually("the signal is passed on", || sent(fake).len() > before);
    assert_eq!(sent(fake).last().unwrap(), &format!("kill {signal}"));
}

/// A command in the foreground, once the container's output comes through it.
fn joined(fake: &Fake, args: &[&str]) -> Child {
    let mut command = fake.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    child
}

fn running(fake: &Fake) -> bool {
    fake.ledger(|ledger| ledger.processes[""].pid().is_some())
}

/// `attach`, joined: it passes a signal on.
fn attached(fake: &Fake, flags: &[&str]) -> Child {
    let before = fake.ledger(|ledger| ledger.calls.iter().filter(|call| *call == "attach").count());
    let mut command = fake.command(&[&["attach"], flags, &["web"]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let attaches = || fake.ledger(|ledger| ledger.calls.iter().filter(|call| *call == "attach").count());
    eventually("it attaches", || attaches() > before);
    child
}

#[test]
fn attach_without_the_proxy_is_left_by_a_signal() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["-d", "--name", "web"], &["sh", "-c", STUBBORN]).code, 0);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let child = attached(&fake, &["--sig-proxy=false"]);
        send(&child, signal);
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (0, ""));
    }
    assert!(running(&fake) && sent(&fake).is_empty());
}

#[test]
fn without_the_proxy_the_first_request_ends_a_container_that_is_not_kept() {
    let fake = Fake::new();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let rootfs = fake.rootfs();
        let run = ["run", "--rm", "--sig-proxy=false", "--read-only", "--rootfs", &rootfs];
        let child = joined(&fake, &[&run[..], &["sh", "-c", STUBBORN]].concat());
        send(&child, signal);
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!((done.code, done.err.as_str()), (128 + signal, ""));
        assert_eq!(sent(&fake).last().unwrap(), "kill 9");
        assert!(fake.residue().is_empty(), "{:?}", fake.residue());
    }
    assert_eq!(sent(&fake).len(), 2);
}

#[test]
fn the_third_request_to_end_leaves_a_container_that_was_attached_to() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["-d", "--name", "web"], &["sh", "-c", STUBBORN]).code, 0);
    let child = attached(&fake, &[]);
    send_and_see(&fake, &child, libc::SIGINT);
    send_and_see(&fake, &child, libc::SIGINT);
    send(&child, libc::SIGINT);
    let done = Done::of(child.wait_with_output().unwrap());
    assert!(done.code == 130 && done.err.contains("did not end for 3 signals, and runs on"), "{}", done.err);
    assert!(running(&fake) && sent(&fake) == ["kill 2", "kill 2"]);
}

#[test]
fn the_third_request_to_end_leaves_a_container_that_is_kept() {
    let fake = Fake::new();
    let rootfs = fake.rootfs();
    let run = ["run", "--read-only", "--name", "web", "--rootfs", &rootfs, "sh", "-c", STUBBORN];
    let child = joined(&fake, &run);
    send_and_see(&fake, &child, libc::SIGTERM);
    send_and_see(&fake, &child, libc::SIGINT);
    send(&child, libc::SIGTERM);
    let done = Done::of(child.wait_with_output().unwrap());
    assert!(done.code == 143 && done.err.contains("runs on without this command"), "{}", done.err);
    assert!(running(&fake));
    assert!(fake.theca(&["ps"]).out.contains("web"));
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_guest_that_takes_no_signal_is_left_all_the_same() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["-d", "--name", "web"], &["sh", "-c", STUBBORN]).code, 0);
    let child = attached(&fake, &[]);
    std::fs::write(fake.path().join("hangs"), "").unwrap();
    send_and_see(&fake, &child, libc::SIGINT);
    // Signals of one kind that come at once are one.
    send(&child, libc::SIGTERM);
    send(&child, libc::SIGINT);
    let done = Done::of(child.wait_with_output().unwrap());
    assert!([130, 143].contains(&done.code), "{done:?}");
    assert_eq!(sent(&fake), ["kill 2"]);
    std::fs::remove_file(fake.path().join("hangs")).unwrap();
}

#[test]
fn a_process_that_was_added_is_left_likewise() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["-d", "--name", "web"], &["sleep", "60"]).code, 0);
    let child = joined(&fake, &["exec", "web", "sh", "-c", STUBBORN]);
    send_and_see(&fake, &child, libc::SIGINT);
    send_and_see(&fake, &child, libc::SIGINT);
    send(&child, libc::SIGINT);
    assert_eq!(Done::of(child.wait_with_output().unwrap()).code, 130);
    assert_eq!(sent(&fake), ["kill 2", "kill 2"]);
}

#[test]
fn whatever_docker_passes_on_reaches_the_container() {
    let fake = Fake::new();
    let rootfs = fake.rootfs();
    let run = ["run", "--rm", "--read-only", "--rootfs", &rootfs, "sh", "-c", STUBBORN];
    let mut child = joined(&fake, &run);
    // This one is caught from the start; once it is passed on, the others are too.
    send_and_see(&fake, &child, libc::SIGUSR1);
    for signal in [
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGALRM,
        libc::SIGSTKFLT,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
    ] {
        send_and_see(&fake, &child, signal);
    }
    for signal in [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH] {
        send(&child, signal);
    }
    send_and_see(&fake, &child, libc::SIGHUP);
    assert!(!sent(&fake).iter().any(|call| ["kill 17", "kill 23", "kill 28"].contains(&call.as_str())));
    fake.ledger(|ledger| ledger.processes[""].kill(libc::SIGKILL));
    assert_eq!(child.wait().unwrap().code(), Some(137));
}
