//! A command that is stopped while it makes a container: nothing of it stays, at the latest after the next command.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::fake::{Done, Fake, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `theca create --cidfile …`, while its `mke2fs` waits for the file `go`.
fn creating(fake: &Fake) -> (Child, PathBuf) {
    let bin = fake.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = "#!/bin/sh\ntouch $0.runs; until [ -e $0.go ]; do sleep 0.02; done\n";
    std::fs::write(bin.join("mke2fs"), script).unwrap();
    std::fs::set_permissions(bin.join("mke2fs"), PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let (cidfile, rootfs) = (fake.path().join("cid"), fake.rootfs());
    let cid = cidfile.display().to_string();
    let mut create = fake.command(&["create", "--cidfile", &cid, "--rootfs", &rootfs, "true"]);
    let child = create.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("mke2fs runs", || bin.join("mke2fs.runs").exists());
    (child, cidfile)
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn a_create_that_is_interrupted_leaves_nothing() {
    let fake = Fake::new();
    let (child, cidfile) = creating(&fake);
    assert!(!fake.residue().is_empty(), "it is being made");
    send(&child, Signal::SIGINT);
    std::fs::write(fake.path().join("bin/mke2fs.go"), "").unwrap();
    let done = Done::of(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.out.as_str()), (130, ""), "{}", done.err);
    assert!(fake.residue().is_empty() && !cidfile.exists(), "{:?}", fake.residue());
}

#[test]
fn the_file_of_the_id_goes_with_a_container_whose_making_was_cut_short() {
    let fake = Fake::new();
    let rootfs = fake.rootfs();
    let cid = fake.path().join("cid");
    let args = ["--cidfile", cid.to_str().unwrap(), "--name", "web"];
    // The keeper's `start` lasts until this command is killed.
    std::fs::write(fake.path().join("keeper"), "#!/bin/sh\nexec sleep 3\n").unwrap();
    let mut child = fake.run_command(&args, &["true"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the file is written", || std::fs::read_to_string(&cid).is_ok_and(|id| id.len() == 64));
    send(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert_eq!(fake.theca(&["ps", "-aq"]).out, "");
    assert!(fake.residue().is_empty() && !cid.exists(), "{:?}", fake.residue());

    // One that has come to be keeps it, even if it is removed.
    let created = fake.theca(&["create", "--read-only", args[0], args[1], "--rootfs", &rootfs, "true"]);
    assert_eq!(created.code, 0, "{}", created.err);
    assert_eq!(fake.theca(&["rm", created.out.trim()]).code, 0);
    assert_eq!(std::fs::read_to_string(&cid).unwrap(), created.out.trim());
}
