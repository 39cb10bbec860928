//! What the command says of the machine that it is tested on, whose /dev/kvm may be missing, closed, or unable to boot
//! Linux.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::process::{Command, Output};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;

/// What must be said of this machine; nothing if it can run sandboxes.
fn complaint() -> Option<&'static str> {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let virtualization = processor.split_whitespace().any(|word| word == "vmx" || word == "svm");
    match OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(|error| error.kind()) {
        Err(ErrorKind::NotFound) => Some("there is no /dev/kvm: load kvm_intel or kvm_amd"),
        Err(ErrorKind::PermissionDenied) => Some("no permission to use /dev/kvm: run as root, or have"),
        Err(_) => Some("/dev/kvm"),
        Ok(_) if !virtualization => {
            Some("KVM on this machine cannot boot Linux: its processor offers neither")
        }
        Ok(_) => None,
    }
}

fn theca(folder: &TempDir, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_theca"));
    command.env("THECA_ROOT", folder.path()).env("THECA_STATE", folder.path());
    command.env_remove("THECA_SKIP_CHECKS").args(args).output().unwrap()
}

#[test]
fn a_machine_that_runs_no_sandboxes_is_told_so_before_anything_is_made() {
    let Some(complaint) = complaint() else {
        println!("skipped: this machine's KVM boots Linux");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = theca(&folder, &["run", "--rm", "--rootfs", "/", "true"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.starts_with(&format!("theca: {complaint}")), "{said}");
    assert_eq!((run.status.code(), said.lines().count()), (Some(125), 1));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let check = theca(&folder, &["check"]);
    let found = String::from_utf8_lossy(&check.stdout);
    assert!(found.contains("MISSING  boots Linux"), "{found}");
    assert_eq!(check.status.code(), Some(1));
}

#[test]
fn check_tells_what_there_is_and_version_the_guest_s_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let check = theca(&folder, &["check", "--format", "json"]);
    let findings: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let found = |name: &str| {
        let mut findings = findings.as_array().unwrap().iter();
        let finding = findings.find(|finding| finding["Name"] == name).unwrap();
        finding["Found"].as_str().unwrap().to_owned()
    };
    assert!(found("processors").contains("; a sandbox has 1, and at most "));
    assert!(found("memory").contains(" MiB of it available: room for "));

    for (file, content) in [("vmlinux", "\x7fELF\x02\x01 Linux version 6.12.1-x (a@b)\n"), ("initrd", "")] {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_theca"));
    command.env("THECA_KERNEL", folder.path().join("vmlinux"));
    command.env("THECA_INITRD", folder.path().join("initrd"));
    let shown = command.args(["version", "--format", "json"]).output().unwrap();
    let version: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(version["KernelRelease"], "6.12.1-x");
}

#[test]
fn more_processors_than_there_are_to_use_are_refused_before_anything_is_made() {
    // What this thread may use is what its child may.
    let mut one = CpuSet::new();
    let ours = sched_getaffinity(Pid::this()).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| ours.is_set(*cpu).unwrap()).unwrap();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = theca(&folder, &["run", "--rm", "--cpus", "2", "--rootfs", "/", "true"]);
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(said, "theca: 2 processors are wanted, this machine has 1; ask for fewer with --cpus\n");
    assert_eq!(run.status.code(), Some(125));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
