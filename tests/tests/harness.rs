//! The tools of these tests, proved without Theca: when these fail, no other result means anything.

use std::process::Command;

use nix::sys::signal::Signal;
use theca_tests::registry::{PASSWORD, USER};
use theca_tests::{Bundle, Invocation, Pty, Registry, eventually};

#[test]
fn an_invocation_tells_streams_and_codes_apart() {
    let output = Invocation::new("sh", &["-c", "cat; echo oops >&2; exit 4"]).input("in").run();
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (4, "in", "oops\n"));
    let running = Invocation::new("sleep", &["100"]).start();
    running.signal(Signal::SIGTERM);
    running.wait().exits(143);
}

#[test]
fn a_terminal_is_a_terminal() {
    let mut pty =
        Pty::start(Command::new("sh").args(["-c", "trap 'stty size' WINCH; tty && echo ready; cat; exit 5"]));
    assert!(pty.expect("ready").contains("/dev/pts/"));
    pty.send("typed\n");
    // Once echoed by the terminal, once by cat.
    pty.expect("typed");
    pty.expect("typed");
    pty.resize(100, 40);
    pty.send("\x04");
    pty.expect("40 100");
    assert_eq!(pty.wait(), 5);
}

#[test]
fn runc_runs_a_bundle() {
    let bundle = Bundle::new(&["sh", "-c", "id -u; exit 9"]);
    assert_eq!(bundle.runc().exits(9).stdout, "0\n");
}

#[test]
fn a_registry_serves_what_was_pushed() {
    let registry = Registry::start();
    let reference = registry.push_debian("debian:13");
    let inspect = ["inspect", "--tls-verify=false", &format!("docker://{reference}")];
    assert_eq!(Invocation::new("skopeo", &inspect).run().json()["Os"], "linux");
}

#[test]
fn a_closed_registry_wants_its_certificate_trusted_and_a_password() {
    let registry = Registry::start_closed();
    registry.push_debian("debian:13");
    let certificate = registry.certificate().to_string_lossy().into_owned();
    let user = format!("{USER}:{PASSWORD}");
    let address = format!("https://{}", registry.reference("v2/").replace("/v2/", "/v2/_catalog"));
    let curl = |more: &[&str]| Invocation::new("curl", &[&["-sS", &address], more].concat()).run();
    curl(&[]).exits(60);
    let trusting = ["--cacert", certificate.as_str()];
    assert!(curl(&trusting).success().contains("UNAUTHORIZED"));
    let known = [&trusting[..], &["--user", user.as_str()]].concat();
    assert_eq!(curl(&known).json()["repositories"][0], "debian");
}

#[test]
fn waiting_ends_when_the_thing_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    let script = format!("sleep 0.2; touch {}", file.display());
    let _running = Invocation::new("sh", &["-c", &script]).start();
    eventually("the file", || file.exists());
}
