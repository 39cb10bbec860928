//! Guests that break the rules of one device (those of all are in `every_device.rs`), on a real KVM and against the whole VMM with its jail.
//!
//! Each ends its request, its connection or its device and nothing else: every payload goes on to print something and to
//! power off, so that a hang, a crash or a VMM killed by its own filter fails the test.

mod common;

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::driver::{BALLOON, BUFFER, CONSOLE, FIRST, NEXT, WRITE, used_length};
use common::payload::Payload;
use common::{Guest, Vmm, kvm};
use theca_vmm_protocol::{Disk, DiskSlot, ExitReason, Reply, Request, Vsock};

const RNG: u32 = FIRST;
const DISK: u32 = FIRST;
const VSOCK: u32 = FIRST;
/// Status of a device that runs, and of one that asks for a reset.
const RUNS: u8 = 0x0f;
const FAILED: u8 = 0x4f;

fn guest(payload: Payload) -> Option<Guest> {
    Some(Guest::new(kvm()?, &payload.print("alive").power_off().pvh()))
}

fn with_rng(payload: Payload) -> Option<Guest> {
    let mut guest = guest(payload)?;
    guest.config.rng = true;
    Some(guest)
}

/// Runs to the power-off; answers what was printed before "alive".
fn printed(guest: Guest) -> Vec<u8> {
    let mut vmm = guest.configure();
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    end(&mut vmm)
}

fn end(vmm: &mut Vmm) -> Vec<u8> {
    assert_eq!(vmm.end(), ExitReason::Shutdown);
    let bytes = vmm.console_bytes();
    let text = bytes.strip_suffix(b"alive").unwrap_or_else(|| panic!("not alive at the end: {bytes:?}"));
    text.to_vec()
}

#[test]
fn an_rng_request_of_64_kib_and_more_gets_64_kib() {
    let mut payload = Payload::new().start_device(RNG, 1);
    for (position, length) in (0..).zip([64 << 10, (64 << 10) + 1, 16 << 20]) {
        payload = payload
            .descriptor((RNG, 0, 0), BUFFER.into(), length, WRITE, 0)
            .offer(RNG, 0, position, 0)
            .wait_used(RNG, 0, position as u16 + 1)
            .print_memory(used_length(RNG, 0, position), 4);
    }
    let Some(guest) = with_rng(payload) else { return };
    assert_eq!(printed(guest), [0, 0, 1, 0].repeat(3));
}

#[test]
fn kicks_of_queues_that_are_not_there_or_not_ready_do_nothing() {
    let flood = |queue| Payload::new().kick(RNG, queue).kick(BALLOON, queue).kick(CONSOLE, queue);
    let mut payload = Payload::new();
    for queue in [0, 1, 5, 0x1_0000, u32::MAX] {
        payload = payload.repeat(50, flood(queue));
    }
    let payload = payload.start_device(RNG, 1).use_rng(RNG).print_status(RNG);
    let Some(guest) = with_rng(payload) else { return };
    assert_eq!(printed(guest), [RUNS]);
}

#[test]
fn a_device_that_is_reset_while_it_works_starts_anew() {
    let round = Payload::new()
        .start_device(RNG, 1)
        .descriptor((RNG, 0, 0), BUFFER.into(), 32 << 10, WRITE, 0)
        .offer(RNG, 0, 0, 0);
    let payload = Payload::new().repeat(30, round).start_device(RNG, 1).use_rng(RNG).print_status(RNG);
    let Some(guest) = with_rng(payload) else { return };
    assert_eq!(printed(guest), [RUNS]);
}

#[test]
fn a_console_flood_stays_within_the_log() {
    // Sixteen times 32 MiB in one request, over and over.
    let mut payload = Payload::new().start_device(CONSOLE, 2);
    for index in 0..16 {
        let flags = if index < 15 { NEXT } else { 0 };
        payload = payload.descriptor((CONSOLE, 1, index), BUFFER.into(), 32 << 20, flags, index as u16 + 1);
    }
    let round = Payload::new().offer_next(CONSOLE, 1).wait_until_served(CONSOLE, 1);
    let payload =
        payload.store_bytes(BUFFER, b"flood").repeat(50, round).print("\nend\n").print_status(CONSOLE);
    let Some(guest) = guest(payload) else { return };
    let limit = guest.config.console.max_bytes as usize;
    let bytes = printed(guest);
    assert!(bytes.len() <= limit);
    assert!(bytes.ends_with(&[b'\n', b'e', b'n', b'd', b'\n', RUNS]), "{:?}", &bytes[bytes.len() - 16..]);
}

/// A disk of two sectors, the first of which begins with "disk".
fn with_disk(payload: Payload, read_only: bool) -> Option<Guest> {
    let mut guest = guest(payload)?;
    let mut bytes = vec![0; 1024];
    bytes[..4].copy_from_slice(b"disk");
    let file = guest.add(common::file(&bytes));
    guest.config.disks = vec![DiskSlot::Disk(Disk { file, read_only, serial: "malicious".into() })];
    Some(guest)
}

const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// A request of one data buffer; prints its status byte.
fn disk_request(payload: Payload, position: u32, kind: u32, sector: u64, length: u32) -> Payload {
    const HEADER: u32 = BUFFER;
    const STATUS: u32 = BUFFER + 0x100;
    const DATA: u32 = BUFFER + 0x1000;
    let write = if [1, DISCARD, WRITE_ZEROES].contains(&kind) { 0 } else { WRITE };
    payload
        .store32(HEADER, kind)
        .store32(HEADER + 8, sector as u32)
        .store32(HEADER + 12, (sector >> 32) as u32)
        .store32(STATUS, 0xff)
        .descriptor((DISK, 0, 0), HEADER.into(), 16, NEXT, 1)
        .descriptor((DISK, 0, 1), DATA.into(), length, NEXT | write, 2)
        .descriptor((DISK, 0, 2), STATUS.into(), 1, WRITE, 0)
        .offer(DISK, 0, position, 0)
        .wait_used(DISK, 0, position as u16 + 1)
        .print_memory(STATUS, 1)
}

#[test]
fn requests_outside_the_disk_fail_one_by_one() {
    let wrong = [
        (0, 2, 512),
        (0, 1, 1024),
        (0, u64::MAX, 512),
        (0, 1 << 55, 512),
        (1, 2, 512),
        (0, 0, 48 << 20),
        (0, 0, 100),
    ];
    let mut payload = Payload::new().start_device(DISK, 1);
    for (position, (kind, sector, length)) in (0..).zip(wrong) {
        payload = disk_request(payload, position, kind, sector, length);
    }
    let payload = disk_request(payload, wrong.len() as u32, 0, 0, 512).print_memory(BUFFER + 0x1000, 4);
    let Some(guest) = with_disk(payload.print_status(DISK), false) else { return };
    let mut expected = vec![1; wrong.len()];
    expected.extend(b"\0disk");
    expected.push(RUNS);
    assert_eq!(printed(guest), expected);
}

#[test]
fn a_read_only_disk_is_not_written_whatever_the_driver_believes() {
    let payload = Payload::new().start_device(DISK, 1).store32(BUFFER + 0x1000, 0x2121_2121);
    let payload = disk_request(disk_request(payload, 0, 1, 0, 512), 1, 0, 0, 512);
    let Some(guest) = with_disk(payload.print_memory(BUFFER + 0x1000, 4), true) else { return };
    assert_eq!(printed(guest), b"\x01\0disk");
}

/// Discards or zeroes these ranges (first sector, sectors, flags) in one request; prints its status byte.
fn clear_request(payload: Payload, position: u32, kind: u32, ranges: &[(u64, u32, u32)]) -> Payload {
    let range = |(sector, count, flags): &(u64, u32, u32)| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    let bytes: Vec<u8> = ranges.iter().flat_map(range).collect();
    disk_request(payload.store_bytes(BUFFER + 0x1000, &bytes), position, kind, 0, bytes.len() as u32)
}

#[test]
fn ranges_outside_the_disk_clear_nothing_and_the_rest_is_cleared() {
    let refused: [&[(u64, u32, u32)]; 5] = [
        &[(2, 1, 0)],
        &[(1, 2, 0)],
        &[(u64::MAX, 1, 0)],
        &[(0, u32::MAX, 0)],
        // One that is right beside one that is not.
        &[(0, 1, 0), (2, 1, 0)],
    ];
    let mut requests = 0;
    let mut next = |payload, kind, ranges: &[_]| {
        requests += 1;
        clear_request(payload, requests - 1, kind, ranges)
    };
    let mut payload = Payload::new().start_device(DISK, 1);
    for kind in [DISCARD, WRITE_ZEROES] {
        payload = refused.iter().fold(payload, |payload, ranges| next(payload, kind, ranges));
    }
    // Flags that nobody knows, and the only one there is where it is not allowed: "unsupported".
    payload = next(payload, WRITE_ZEROES, &[(0, 1, 2)]);
    payload = next(payload, DISCARD, &[(0, 1, 1)]);
    // The first sector is still what it was.
    payload = disk_request(payload, 12, 0, 0, 512).print_memory(BUFFER + 0x1000, 4);
    // Overlapping ones of the last sector, which are fine: as a hint, as zeroes, and as zeroes that free the blocks.
    let mut payload = clear_request(payload, 13, DISCARD, &[(1, 1, 0), (1, 1, 0)]);
    for (position, flags) in [(14, 0), (15, 1)] {
        payload = clear_request(payload, position, WRITE_ZEROES, &[(0, 2, flags), (1, 1, flags)]);
    }
    let Some(guest) = with_disk(payload.print_status(DISK), false) else { return };
    let mut expected = vec![1; 10];
    expected.extend([2, 2]);
    expected.extend(b"\0disk\0\0\0");
    expected.push(RUNS);
    assert_eq!(printed(guest), expected);
}

/// Offers a request of `kind` for the whole disk `count` times at once, from `position` on, in one and the same chain. Writes wait for
/// the host and are done by several threads; reads of what is in the page cache by one.
fn same_request(payload: Payload, kind: u32, position: u32, count: u32) -> Payload {
    let write = if kind == 0 { WRITE } else { 0 };
    let payload = payload
        .store_bytes(BUFFER, &[0; 16])
        .store32(BUFFER, kind)
        .store_bytes(BUFFER + 0x1000, b"same")
        .descriptor((DISK, 0, 0), BUFFER.into(), 16, NEXT, 1)
        .descriptor((DISK, 0, 1), u64::from(BUFFER) + 0x1000, 1024, NEXT | write, 2)
        .descriptor((DISK, 0, 2), u64::from(BUFFER) + 0x100, 1, WRITE, 0);
    (0..count).fold(payload, |payload, nth| payload.offer(DISK, 0, position + nth, 0))
}

/// Reads the first sector as request `position`; prints its status, its first bytes and the device's status.
fn first_sector(payload: Payload, position: u32) -> Payload {
    let payload = disk_request(payload.store32(BUFFER + 0x1000, 0), position, 0, 0, 512);
    payload.print_memory(BUFFER + 0x1000, 4).print_status(DISK)
}

#[test]
fn a_chain_that_is_in_flight_many_times_is_answered_as_often() {
    for (kind, found) in [(0, b"\0disk\x0f"), (1, b"\0same\x0f")] {
        let payload = same_request(Payload::new().start_device(DISK, 1), kind, 0, 8).wait_used(DISK, 0, 8);
        let Some(guest) = with_disk(first_sector(payload, 8), false) else { return };
        assert_eq!(printed(guest), found);
    }
}

#[test]
fn a_disk_that_is_reset_while_it_works_starts_anew() {
    for kind in [0, 1] {
        let round = same_request(Payload::new().start_device(DISK, 1), kind, 0, 4);
        let payload = Payload::new().repeat(30, round).start_device(DISK, 1);
        let Some(guest) = with_disk(first_sector(payload, 0), false) else { return };
        let printed = printed(guest);
        // What was not written before the reset is not written any more.
        assert!([b"\0disk\x0f", b"\0same\x0f"].iter().any(|right| printed == *right), "{printed:?}");
    }
}

fn with_vsock(payload: Payload) -> Option<(Guest, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("vsock")).unwrap();
    let mut guest = guest(payload)?;
    let listener = guest.add(listener);
    guest.config.vsock = Some(Vsock { guest_cid: 3, listener, host_ports: vec![1025] });
    Some((guest, folder))
}

/// Header of a packet from port `from` to the host's port 1025.
fn packet(from: u32, op: u16, length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(3u64.to_le_bytes());
    bytes.extend(2u64.to_le_bytes());
    for word in [from, 1025, length] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend([1, 0]);
    bytes.extend(op.to_le_bytes());
    // No flags, 64 KiB of room, nothing taken from it.
    bytes.extend([0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    bytes
}

const REQUEST: u16 = 1;
const DATA: u16 = 5;

#[test]
fn thousands_of_half_open_vsock_connections_stay_within_the_limit() {
    // Opens a connection, never takes an answer, and goes on with the next port.
    let next_port: Payload = Payload::new().bytes(&[0xff, 0x05]).bytes(&(BUFFER + 16).to_le_bytes());
    let round = next_port.offer_next(VSOCK, 1).wait_until_served(VSOCK, 1);
    let payload = Payload::new()
        .start_device(VSOCK, 3)
        .store_bytes(BUFFER, &packet(5000, REQUEST, 0))
        .descriptor((VSOCK, 1, 0), BUFFER.into(), 44, 0, 0)
        .repeat(2000, round)
        .print_status(VSOCK);
    let Some((guest, _folder)) = with_vsock(payload) else { return };
    let mut vmm = guest.configure();
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    assert_eq!(end(&mut vmm), [RUNS]);
    let dials = vmm.connects().len();
    assert!((1..=512).contains(&dials), "{dials} dials");
}

#[test]
fn a_vsock_packet_longer_than_its_buffer_resets_its_connection() {
    let receive = BUFFER + 0x1000;
    let payload = Payload::new()
        .start_device(VSOCK, 3)
        .descriptor((VSOCK, 0, 0), receive.into(), 4096, WRITE, 0)
        .descriptor((VSOCK, 0, 1), u64::from(receive) + 4096, 4096, WRITE, 0)
        .offer(VSOCK, 0, 0, 0)
        .offer(VSOCK, 0, 1, 1)
        .store_bytes(BUFFER, &packet(5000, REQUEST, 0))
        .descriptor((VSOCK, 1, 0), BUFFER.into(), 44, 0, 0)
        .offer(VSOCK, 1, 0, 0)
        .wait_used(VSOCK, 0, 1)
        .store_bytes(BUFFER, &packet(5000, DATA, u32::MAX))
        .offer(VSOCK, 1, 1, 0)
        .wait_used(VSOCK, 0, 2)
        // The operations of both answers: response, reset.
        .print_memory(receive + 30, 1)
        .print_memory(receive + 4096 + 30, 1)
        .print_status(VSOCK);
    let Some((guest, _folder)) = with_vsock(payload) else { return };
    assert_eq!(printed(guest), [2, 3, RUNS]);
}

#[test]
fn a_vsock_buffer_too_short_for_a_header_stops_the_device_only() {
    let payload = Payload::new()
        .start_device(VSOCK, 3)
        .descriptor((VSOCK, 0, 0), BUFFER.into(), 43, WRITE, 0)
        .offer(VSOCK, 0, 0, 0)
        .store_bytes(BUFFER, &packet(5000, REQUEST, 0))
        .descriptor((VSOCK, 1, 0), BUFFER.into(), 44, 0, 0)
        .offer(VSOCK, 1, 0, 0)
        .wait_failed(VSOCK)
        .print_status(VSOCK);
    let Some((guest, _folder)) = with_vsock(payload) else { return };
    assert_eq!(printed(guest), [FAILED]);
}

#[test]
fn a_guest_that_fails_its_devices_for_ever_still_answers_its_keeper() {
    let round = Payload::new()
        .start_device(RNG, 1)
        .descriptor((RNG, 0, 0), u64::MAX, 16, WRITE, 0)
        .offer(RNG, 0, 0, 0)
        .wait_failed(RNG);
    let Some(kvm) = kvm() else { return };
    let mut guest = Guest::new(kvm, &Payload::new().print("begun\n").repeat(u32::MAX, round).pvh());
    guest.config.rng = true;
    let mut vmm = guest.configure();
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    common::wait_for("the guest's first words", || vmm.console().contains("begun").then_some(()));
    for _ in 0..5 {
        let asked = Instant::now();
        assert!(matches!(vmm.request(&Request::Stats, &[]), Reply::Stats(_)));
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(vmm.request(&Request::Quit, &[]), Reply::Done);
    assert_eq!(vmm.end(), ExitReason::Quit);
}
