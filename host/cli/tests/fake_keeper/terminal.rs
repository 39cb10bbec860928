//! `theca run -it` on a terminal of the test's own: raw while it runs, as it was afterwards, and left by keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use super::fake::{Fake, eventually};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

struct Session {
    child: Child,
    near: File,
    far: OwnedFd,
    before: Termios,
}

/// Runs `theca run -it` on a new terminal of 100 columns and 30 rows.
fn session(fake: &Fake, flags: &[&str], command: &[&str]) -> Session {
    let size = Winsize { ws_col: 100, ws_row: 30, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let child = fake
        .run_command(&[&["-it"], flags].concat(), command)
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    Session { child, near: pty.master.into(), far: pty.slave, before }
}

impl Session {
    fn is_raw(&self) -> bool {
        !tcgetattr(&self.far).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    fn read_until(&mut self, word: &str) -> String {
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.contains(word) {
            self.near.read_exact(&mut byte).unwrap();
            seen.push(byte[0].into());
        }
        seen
    }
}

#[test]
fn the_terminal_is_raw_while_the_container_runs_and_restored_afterwards() {
    let fake = Fake::new();
    let mut session = session(&fake, &["--rm"], &["sh", "-c", "echo begun; read word; exit 6"]);
    session.read_until("begun");
    eventually("the terminal is raw", || session.is_raw());
    eventually("the size is told", || fake.ledger(|ledger| ledger.sizes.contains(&(100, 30))));
    session.near.write_all(b"word\n").unwrap();
    assert_eq!(session.child.wait().unwrap().code(), Some(6));
    let after = tcgetattr(&session.far).unwrap();
    assert_eq!(after.local_flags, session.before.local_flags);
    assert!(fake.residue().is_empty(), "{:?}", fake.residue());
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    let fake = Fake::new();
    let mut session = session(&fake, &["--name", "web"], &["sh", "-c", "echo begun; exec sleep 60"]);
    session.read_until("begun");
    session.near.write_all(b"\x10\x11").unwrap();
    assert_eq!(session.child.wait().unwrap().code(), Some(0));
    assert!(!session.is_raw());
    assert_eq!(fake.theca(&["ps", "--format", "{{.Names}} {{.State}}"]).out, "web running\n");
    assert_eq!(fake.theca(&["rm", "-f", "web"]).code, 0);
}

#[test]
fn a_command_that_does_not_start_leaves_the_terminal_as_it_was() {
    let fake = Fake::new();
    let mut session = session(&fake, &[], &["no-such-command"]);
    assert_eq!(session.child.wait().unwrap().code(), Some(127));
    assert!(!session.is_raw());
    let said = session.read_until("PATH");
    assert!(said.contains("no-such-command"), "{said}");
}
