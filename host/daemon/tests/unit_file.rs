//! `deploy/thecad.service` as systemd reads it, where there is one to ask.

use std::path::Path;
use std::process::{Command, Output};

const UNIT: &str = include_str!("../../../deploy/thecad.service");

/// What `systemd-analyze` says of a unit whose program is one that is there; `None` without it.
fn verified(unit: &str) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thecad.service");
    let here: String = unit
        .lines()
        .map(|line| {
            if line.starts_with("ExecStart=") {
                "ExecStart=/bin/true\n".to_owned()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    std::fs::write(&path, here).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.unwrap()),
    }
}

fn said(output: &Output) -> String {
    // Units of the machine may have faults of their own.
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.contains("thecad.service")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn systemd_takes_every_line_of_the_unit() {
    let Some(good) = verified(UNIT) else {
        eprintln!("skipped: there is no systemd-analyze here to ask");
        return;
    };
    assert_eq!(said(&good), "");
    let bad = verified(&UNIT.replace("KillMode=", "KilMode=")).unwrap();
    assert!(said(&bad).contains("KilMode"), "a fault is told: {}", said(&bad));
}

#[test]
fn the_unit_runs_the_program_where_the_readme_puts_it() {
    assert!(UNIT.contains("ExecStart=/usr/bin/thecad\n"));
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(readme.contains("cp -r target/theca/bin target/theca/lib /usr/\n"));
    // A group that is let in has to pass through the folders that its sockets are in.
    assert!(UNIT.contains("UMask=0066\n"));
}
