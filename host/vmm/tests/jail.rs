//! What is left to a VMM that a guest has taken over.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use common::payload::Payload;
use common::{Guest, kvm, wait_for};
use theca_vmm::jail::filters::ThreadKind;
use theca_vmm::jail::seccomp;
use theca_vmm_protocol::{Disk, DiskSlot, Request};

fn status(path: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn every_thread_runs_filtered_and_without_privileges() {
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::new(kvm, &Payload::new().print_for_ever(b'x').pvh());
    guest.config.vcpus = 2;
    let file = guest.add(common::file(&[0; 512]));
    guest.config.disks = vec![DiskSlot::Disk(Disk { file, read_only: false, serial: "disk".into() })];
    let mut vmm = guest.configure();
    vmm.request(&Request::Start, &[]);
    let mut names = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", vmm.id())).unwrap() {
        let path = thread.unwrap().path().join("status");
        // A thread confines itself first thing, which on a busy machine may be after the VMM has answered.
        let thread =
            wait_for("its filter", || Some(status(path.to_str()?)).filter(|status| status["Seccomp"] == "2"));
        assert_eq!(thread["NoNewPrivs"], "1", "{thread:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(thread[set], "0000000000000000", "{thread:?}");
        }
        assert!(!thread["Uid"].split_whitespace().any(|id| id == "0"), "{thread:?}");
        // A worker of KVM itself, which newer kernels show as a thread of the VM's owner.
        if !thread["Name"].starts_with("kvm-") {
            names.push(thread["Name"].clone());
        }
    }
    names.sort();
    assert_eq!(names, ["blk-0", "blk-1", "blk-2", "devices", "theca-vmm", "vcpu-0", "vcpu-1"]);
}

#[test]
fn its_root_is_empty_and_its_namespaces_are_its_own() {
    let Some(kvm) = kvm() else { return };
    let vmm = Guest::new(kvm, &Payload::new().print_for_ever(b'x').pvh()).configure();
    assert_eq!(fs::read_dir(format!("/proc/{}/root/", vmm.id())).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(format!("/proc/{}/mounts", vmm.id())).unwrap().lines().count(), 1);
    for kind in ["mnt", "net", "ipc", "uts"] {
        let theirs = fs::read_link(format!("/proc/{}/ns/{kind}", vmm.id())).unwrap();
        assert_ne!(theirs, fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    }
}

#[test]
fn inherited_descriptors_are_closed() {
    let Some(kvm) = kvm() else { return };
    let leaked = fs::File::open("/etc/passwd").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let vmm = Guest::new(kvm, &Payload::new().print_for_ever(b'x').pvh()).configure();
    for entry in fs::read_dir(format!("/proc/{}/fd", vmm.id())).unwrap() {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        assert_ne!(target.to_str(), Some("/etc/passwd"));
    }
}

/// Runs `body` of this program's test `name` in a process of its own, since a filter cannot be taken off.
fn in_child(name: &str, body: fn()) -> Option<ExitStatus> {
    const MARK: &str = "THECA_JAIL_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        body();
        return None;
    }
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).args(["--exact", name, "--test-threads=1"]).env(MARK, "1").output().unwrap();
    Some(output.status)
}

fn confine(kind: ThreadKind) {
    nix::sys::prctl::set_no_new_privs().unwrap();
    seccomp::install(&seccomp::compile(kind)).unwrap();
}

#[test]
fn a_call_outside_the_filter_kills_the_process() {
    let status = in_child("a_call_outside_the_filter_kills_the_process", || {
        confine(ThreadKind::Vcpu);
        nix::unistd::getppid();
    });
    assert!(status.is_none_or(|status| status.signal() == Some(libc::SIGSYS)), "{status:?}");
}

#[test]
fn an_argument_outside_the_filter_kills_the_process() {
    let status = in_child("an_argument_outside_the_filter_kills_the_process", || {
        let file = fs::File::open("/dev/null").unwrap();
        confine(ThreadKind::Vcpu);
        // Only ioctls of KVM are named: asking for a terminal's size is not among them.
        let _ = std::io::IsTerminal::is_terminal(&file);
    });
    assert!(status.is_none_or(|status| status.signal() == Some(libc::SIGSYS)), "{status:?}");
}

#[test]
fn a_receiver_may_wait_for_a_sender_that_was_interrupted_halfway() {
    let status = in_child("a_receiver_may_wait_for_a_sender_that_was_interrupted_halfway", || {
        confine(ThreadKind::Vcpu);
        // As the standard library's channels do then, once in some hundred boots on a machine with one processor.
        std::thread::yield_now();
        std::process::exit(0);
    });
    assert!(status.is_none_or(|status| status.success()), "{status:?}");
}

#[test]
fn no_filter_opens_files_sockets_or_processes() {
    let forbidden = [
        libc::SYS_open,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_socket,
        libc::SYS_connect,
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_fork,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_kill,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_mprotect,
    ];
    for kind in [ThreadKind::Control, ThreadKind::Vcpu, ThreadKind::Devices, ThreadKind::Disk] {
        for rule in theca_vmm::jail::filters::of(kind).into_iter().flatten() {
            assert!(!forbidden.contains(&rule.call), "{kind:?} may make call {}", rule.call);
            assert!(!rule.reason.is_empty());
        }
    }
}
