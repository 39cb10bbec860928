//! A reader that pauses (`theca run … | less`): nothing is lost however long it does, and nobody else has to wait for it.

use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::fake::{Done, Fake, eventually};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};

/// More than the reader's pipe takes, and less than that and the FIFO before it.
const OUTPUT: usize = 80_000;
/// Longer than output may trail.
const PAUSE: Duration = Duration::from_secs(11);
/// Within this, a command that is asked to end does.
const SOON: Duration = Duration::from_secs(6);

fn writes(more: &str) -> String {
    format!("head -c {OUTPUT} /dev/zero | tr '\\0' x; {more}")
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// `theca run` whose reader has read one byte and pauses.
fn paused(fake: &Fake, flags: &[&str], script: &str) -> (Child, ChildStdout) {
    let mut run = fake.run_command(flags, &["sh", "-c", script]);
    let mut child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    (child, stdout)
}

fn calls(fake: &Fake, name: &str) -> usize {
    fake.ledger(|ledger| ledger.calls.iter().filter(|call| *call == name).count())
}

/// Waits until the command has seen the end of the container, and dealt with it.
fn over(fake: &Fake) {
    eventually("the sandbox is ended", || calls(fake, "shutdown") == 1);
}

#[test]
fn a_reader_that_pauses_loses_nothing() {
    let fake = Fake::new();
    let (child, mut stdout) = paused(&fake, &["--rm"], &writes("exit 5"));
    over(&fake);
    sleep(PAUSE);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str(), rest.len()), (5, "", OUTPUT - 1));
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn a_reader_that_pauses_loses_nothing_from_output_that_does_not_block() {
    let fake = Fake::new();
    let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut run = fake.run_command(&["--rm"], &["sh", "-c", &writes("exit 5")]);
    let child = run.stdout(write).stderr(Stdio::piped()).spawn().unwrap();
    // It has the end that is written to.
    drop(run);
    over(&fake);
    sleep(PAUSE);
    let mut all = Vec::new();
    std::fs::File::from(read).read_to_end(&mut all).unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str(), all.len()), (5, "", OUTPUT));
}

#[test]
fn a_container_that_has_ended_can_be_removed_while_its_reader_pauses() {
    let fake = Fake::new();
    let (child, mut stdout) = paused(&fake, &["--name", "web"], &writes("exit 5"));
    over(&fake);
    let listed = || fake.theca(&["ps", "-a", "--format", "{{.Status}}"]).out;
    eventually("it is at rest", || listed().starts_with("Exited (5)"));
    let removed = fake.theca(&["rm", "web"]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!((child.wait_with_output().unwrap().status.code(), rest.len()), (Some(5), OUTPUT - 1));
}

#[test]
fn who_waits_for_a_reader_ends_when_asked() {
    let fake = Fake::new();
    // Standard error is stuck likewise: what is to be said must not hold up the end.
    for (flags, together) in [(&["--rm"][..], false), (&["--rm"], true)] {
        let before = calls(&fake, "shutdown");
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut run = fake.run_command(flags, &["sh", "-c", &writes("exit 5")]);
        if together {
            run.stderr(write.try_clone().unwrap());
        } else {
            run.stderr(Stdio::piped());
        }
        let child = run.stdout(write).spawn().unwrap();
        drop(run);
        eventually("the sandbox is ended", || calls(&fake, "shutdown") == before + 1);
        send(&child, Signal::SIGTERM);
        let asked = Instant::now();
        let done = Done::of(child.wait_with_output().unwrap());
        assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
        assert_eq!(done.code, 5);
        assert!(together || done.err.contains("was not read in time and is missing"), "{}", done.err);
        drop(read);
    }
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn who_waits_for_a_reader_ends_when_it_leaves() {
    let fake = Fake::new();
    let (child, stdout) = paused(&fake, &["--rm"], &writes("exit 5"));
    over(&fake);
    drop(stdout);
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str()), (5, ""));
}

#[test]
fn a_container_whose_reader_pauses_can_be_left() {
    let fake = Fake::new();
    let (child, _stdout) = paused(&fake, &["--name", "web", "--sig-proxy=false"], "exec yes");
    // All that is between them fills up.
    sleep(Duration::from_millis(300));
    send(&child, Signal::SIGINT);
    let asked = Instant::now();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(fake.theca(&["ps", "--format", "{{.Names}}"]).out, "web\n");
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_process_whose_reader_pauses_loses_nothing() {
    let fake = Fake::new();
    assert_eq!(fake.run(&["-d", "--name", "web"], &["sleep", "60"]).code, 0);
    let mut exec = fake.command(&["exec", "web", "sh", "-c", &writes("exit 5")]);
    let mut child = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    sleep(PAUSE);
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str(), all.len()), (5, "", OUTPUT));
}

#[test]
fn a_kill_is_done_when_the_container_is_at_rest_whatever_its_reader_does() {
    let fake = Fake::new();
    // It ends, and there is more than all pipes take: the keeper, which gives no reader up, does not tell the end.
    let script = "head -c 1000000 /dev/zero | tr '\\0' x & sleep 0.5; exit 5";
    let (mut child, stdout) = paused(&fake, &["--name", "web"], script);
    eventually("it has ended", || fake.ledger(|ledger| !ledger.processes[""].kill(nix::libc::SIGCONT)));
    let killed = fake.theca(&["kill", "web"]);
    assert_eq!((killed.code, killed.out.as_str()), (0, "web\n"), "{}", killed.err);
    let listed = fake.theca(&["ps", "-a", "--format", "{{.Status}}"]).out;
    assert!(listed.starts_with("Exited"), "{listed}");
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
    assert!(child.try_wait().unwrap().is_none(), "its reader may still come");
    drop(stdout);
    assert!(child.wait().unwrap().code().is_some());
}
