//! How a guest can end, and what the keeper hears.

mod common;

use common::payload::Payload;
use common::{Guest, kvm};
use theca_vmm_protocol::ExitReason;

fn end_of(payload: Payload) -> Option<(ExitReason, String)> {
    Some(Guest::new(kvm()?, &payload.pvh()).run())
}

#[test]
fn power_off_is_a_shutdown() {
    let Some(end) = end_of(Payload::new().print("bye\n").power_off()) else { return };
    assert_eq!(end, (ExitReason::Shutdown, "bye\n".into()));
}

#[test]
fn a_keyboard_reset_is_a_reboot() {
    let Some((reason, _)) = end_of(Payload::new().reset()) else { return };
    assert_eq!(reason, ExitReason::Reboot);
}

#[test]
fn a_reset_with_the_warm_boot_word_is_a_panic() {
    let Some((reason, console)) = end_of(Payload::new().mark_panic().print("last words").reset()) else {
        return;
    };
    assert_eq!(reason, ExitReason::Panic);
    assert_eq!(console, "last words");
}

#[test]
fn a_fault_without_a_handler_is_a_triple_fault() {
    let Some((reason, _)) = end_of(Payload::new().triple_fault()) else { return };
    assert_eq!(reason, ExitReason::TripleFault);
}

#[test]
fn unknown_ports_and_addresses_do_not_end_the_guest() {
    let payload = Payload::new()
        .out(0x80, 0)
        .out(0xcf8, 1)
        .out(0x70, 2)
        .store(0xd000_0000, 1)
        .store(0xe000_0000, 1)
        .print("alive")
        .power_off();
    let Some(end) = end_of(payload) else { return };
    assert_eq!(end, (ExitReason::Shutdown, "alive".into()));
}
