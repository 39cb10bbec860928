//! The conversation between keeper and VMM.

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use common::payload::Payload;
use common::{Guest, file, kvm, wait_for};
use theca_vmm_protocol::{ExitReason, FdIndex, Reply, Request};

fn chatter() -> Option<common::Vmm> {
    Some(Guest::new(kvm()?, &Payload::new().print_for_ever(b'x').pvh()).configure())
}

fn failed(reply: Reply) -> String {
    let Reply::Failed(sentence) = reply else { panic!("must fail, was {reply:?}") };
    sentence
}

#[test]
fn a_paused_guest_stands_still_until_it_is_resumed() {
    let Some(mut vmm) = chatter() else { return };
    vmm.request(&Request::Start, &[]);
    wait_for("output", || (!vmm.console().is_empty()).then_some(()));
    for _ in 0..20 {
        assert_eq!(vmm.request(&Request::Pause, &[]), Reply::Done);
        let before = exits(&mut vmm);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(exits(&mut vmm), before);
        assert_eq!(vmm.request(&Request::Resume, &[]), Reply::Done);
        wait_for("more output", || (exits(&mut vmm) > before).then_some(()));
    }
    assert_eq!(vmm.request(&Request::Quit, &[]), Reply::Done);
    assert_eq!(vmm.end(), ExitReason::Quit);
}

fn exits(vmm: &mut common::Vmm) -> u64 {
    match vmm.request(&Request::Stats, &[]) {
        Reply::Stats(stats) => stats.exits,
        reply => panic!("must be statistics, was {reply:?}"),
    }
}

#[test]
fn requests_out_of_place_are_refused_and_change_nothing() {
    let Some(mut vmm) = chatter() else { return };
    assert!(failed(vmm.request(&Request::Pause, &[])).contains("not started"));
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    assert!(failed(vmm.request(&Request::Start, &[])).contains("started already"));
    let state = file(b"");
    let save = Request::SaveState { file: FdIndex(0) };
    assert!(failed(vmm.request(&save, &[state.as_fd()])).contains("pause it first"));
    let disk = theca_vmm_protocol::Disk { file: FdIndex(0), read_only: true, serial: String::new() };
    let attach = Request::AttachDisk { slot: 3, disk };
    assert!(failed(vmm.request(&attach, &[state.as_fd()])).contains("no disk slot 3"));
    wait_for("the guest, still running", || (exits(&mut vmm) > 0).then_some(()));
}

#[test]
fn a_keeper_that_dies_takes_its_vm_along() {
    let Some(mut vmm) = chatter() else { return };
    vmm.request(&Request::Start, &[]);
    vmm.hang_up();
    vmm.wait();
}

#[test]
fn a_flood_on_the_serial_port_stays_within_its_bound() {
    let Some(mut vmm) = chatter() else { return };
    vmm.request(&Request::Start, &[]);
    let dropped = wait_for("dropped output", || match vmm.request(&Request::Stats, &[]) {
        Reply::Stats(stats) if stats.console_dropped_bytes > 0 => Some(stats.console_dropped_bytes),
        _ => None,
    });
    assert!(dropped > 0);
    assert!(vmm.console().len() <= 1 << 16);
}

#[test]
fn a_saved_state_is_one_json_document_with_every_part() {
    let Some(mut vmm) = chatter() else { return };
    vmm.request(&Request::Start, &[]);
    vmm.request(&Request::Pause, &[]);
    let state = tempfile::NamedTempFile::new().unwrap();
    let save = Request::SaveState { file: FdIndex(0) };
    assert_eq!(vmm.request(&save, &[state.as_file().as_fd()]), Reply::Done);
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(state.path()).unwrap()).unwrap();
    assert_eq!(document["version"], 1);
    assert_eq!(document["memory_mib"], 64);
    assert_eq!(document["vcpus"].as_array().unwrap().len(), 1);
    assert!(!document["devices"].as_array().unwrap().is_empty());
    // It goes on as if nothing had been.
    assert_eq!(vmm.request(&Request::Resume, &[]), Reply::Done);
}
