//! The ways to break virtio that every device knows, each tried on every device of one guest, on a real KVM and against the
//! whole VMM with its jail.
//!
//! The device asks for a reset, or takes no notice. Its neighbour serves meanwhile, and after a reset the device does too.

mod common;

use std::os::unix::net::UnixListener;

use common::driver::{BALLOON, BUFFER, CONSOLE, FIRST, NEXT, WRITE, register, rings};
use common::payload::Payload;
use common::{Guest, kvm};
use theca_vmm_protocol::{Disk, DiskSlot, ExitReason, Reply, Request, Vsock};

const RNG: u32 = FIRST;
const VSOCK: u32 = FIRST + 1;
const DISK: u32 = FIRST + 2;
/// Status of a device that runs, and of one that asks for a reset.
const RUNS: u8 = 0x0f;
const FAILED: u8 = 0x4f;
/// What is no RAM: the hole below 4 GiB, a device's registers, the local APIC, far away, the end of all addresses.
const NO_RAM: [u64; 5] = [0xc000_0000, 0xd000_0000, 0xfee0_0000, 1 << 40, u64::MAX - 7];

/// One device, and the queue of it that a driver fills with requests.
struct Device {
    name: &'static str,
    slot: u32,
    /// How many queues a driver sets up.
    queues: u32,
    queue: u32,
    /// The flags of a request's first buffer, and its length.
    first: (u16, u32),
    /// Writes the request that the first buffers make, in descriptors from 0 on.
    request: fn(Payload) -> Payload,
}

const DEVICES: [Device; 5] = [
    Device { name: "console", slot: CONSOLE, queues: 2, queue: 1, first: (0, 1), request: console_request },
    Device { name: "balloon", slot: BALLOON, queues: 3, queue: 2, first: (WRITE, 4096), request: report },
    Device { name: "rng", slot: RNG, queues: 1, queue: 0, first: (WRITE, 16), request: rng_request },
    Device { name: "vsock", slot: VSOCK, queues: 3, queue: 1, first: (0, 44), request: connect },
    Device { name: "disk", slot: DISK, queues: 1, queue: 0, first: (NEXT, 16), request: read },
];

fn console_request(payload: Payload) -> Payload {
    payload.store_bytes(BUFFER, b"!").descriptor((CONSOLE, 1, 0), BUFFER.into(), 1, 0, 0)
}

fn report(payload: Payload) -> Payload {
    payload.descriptor((BALLOON, 2, 0), BUFFER.into(), 4096, WRITE, 0)
}

fn rng_request(payload: Payload) -> Payload {
    payload.descriptor((RNG, 0, 0), BUFFER.into(), 16, WRITE, 0)
}

/// From port 5000 to the host's port 1025, with 64 KiB of room.
fn connect(payload: Payload) -> Payload {
    let words = [3, 0, 2, 0, 5000, 1025, 0, 0x0001_0001, 0, 0x1_0000, 0];
    let packet: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    payload.store_bytes(BUFFER, &packet).descriptor((VSOCK, 1, 0), BUFFER.into(), 44, 0, 0)
}

/// The first sector.
fn read(payload: Payload) -> Payload {
    payload
        .store_bytes(BUFFER, &[0; 16])
        .descriptor((DISK, 0, 0), BUFFER.into(), 16, NEXT, 1)
        .descriptor((DISK, 0, 1), u64::from(BUFFER) + 4096, 512, NEXT | WRITE, 2)
        .descriptor((DISK, 0, 2), u64::from(BUFFER) + 512, 1, WRITE, 0)
}

impl Device {
    fn start(&self, payload: Payload) -> Payload {
        payload.start_device(self.slot, self.queues)
    }

    /// One request, to its answer. The device must be fresh.
    fn serve(&self, payload: Payload) -> Payload {
        (self.request)(payload).offer(self.slot, self.queue, 0, 0).wait_used(self.slot, self.queue, 1)
    }

    /// Prints the status of a device that is broken, then of the others with it, then its own after a reset and a request.
    fn recover(&self, mut payload: Payload) -> Payload {
        payload = payload.wait_failed(self.slot).print_status(self.slot);
        for other in DEVICES.iter().filter(|other| other.slot != self.slot) {
            payload = other.serve(other.start(payload)).print_status(other.slot);
        }
        self.serve(self.start(payload)).print_status(self.slot)
    }
}

/// Runs `breaking` on a guest with all devices; answers what it printed. `None` where there is no KVM to be had.
fn printed(payload: Payload) -> Option<Vec<u8>> {
    let mut guest = Guest::new(kvm()?, &payload.print("alive").power_off().pvh());
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("vsock")).unwrap();
    let listener = guest.add(listener);
    let file = guest.add(common::file(&[0; 512]));
    guest.config.rng = true;
    guest.config.vsock = Some(Vsock { guest_cid: 3, listener, host_ports: vec![1025] });
    guest.config.disks = vec![DiskSlot::Disk(Disk { file, read_only: false, serial: "disk".into() })];
    let mut vmm = guest.configure();
    assert_eq!(vmm.request(&Request::Start, &[]), Reply::Done);
    assert_eq!(vmm.end(), ExitReason::Shutdown);
    let bytes = vmm.console_bytes();
    let bytes = bytes.strip_suffix(b"alive").unwrap_or_else(|| panic!("not alive at the end: {bytes:?}"));
    // The console's own requests print as well.
    Some(bytes.iter().copied().filter(|byte| *byte != b'!').collect())
}

/// Breaks every device in turn; it must fail, and serve again after a reset, its neighbours all the time.
fn each_fails_alone(breaking: impl Fn(&Device, Payload) -> Payload) {
    for device in &DEVICES {
        let payload = device.recover(breaking(device, device.start(Payload::new())));
        let Some(bytes) = printed(payload) else { return };
        assert_eq!(bytes, [FAILED, RUNS, RUNS, RUNS, RUNS, RUNS], "{}", device.name);
    }
}

#[test]
fn a_loop_of_descriptors() {
    each_fails_alone(|device, payload| {
        let (flags, length) = (device.first.0 | NEXT, device.first.1);
        payload
            .descriptor((device.slot, device.queue, 0), BUFFER.into(), length, flags, 1)
            .descriptor((device.slot, device.queue, 1), BUFFER.into(), length, flags, 0)
            .offer(device.slot, device.queue, 0, 0)
    });
}

#[test]
fn a_buffer_outside_ram() {
    each_fails_alone(|device, payload| {
        // One after the other; the device fails each time.
        NO_RAM.iter().enumerate().fold(payload, |payload, (nth, address)| {
            let payload = if nth > 0 { device.start(payload.wait_failed(device.slot)) } else { payload };
            (device.request)(payload)
                .descriptor(
                    (device.slot, device.queue, 0),
                    *address,
                    device.first.1,
                    device.first.0,
                    u16::from(device.first.0 & NEXT != 0),
                )
                .offer(device.slot, device.queue, 0, 0)
        })
    });
}

#[test]
fn a_buffer_that_begins_in_ram_and_ends_outside() {
    each_fails_alone(|device, payload| {
        let (flags, next) = (device.first.0, u16::from(device.first.0 & NEXT != 0));
        (device.request)(payload)
            .descriptor((device.slot, device.queue, 0), BUFFER.into(), u32::MAX, flags, next)
            .offer(device.slot, device.queue, 0, 0)
    });
}

#[test]
fn a_descriptor_beyond_the_table() {
    each_fails_alone(|device, payload| (device.request)(payload).offer(device.slot, device.queue, 0, 0xffff));
}

#[test]
fn an_indirect_table_that_holds_itself() {
    const INDIRECT: u16 = 4;
    each_fails_alone(|device, payload| {
        let entry = [BUFFER, 0, 16, u32::from(INDIRECT)].map(u32::to_le_bytes).concat();
        payload
            .store_bytes(BUFFER, &entry)
            .descriptor((device.slot, device.queue, 0), BUFFER.into(), 16, INDIRECT, 0)
            .offer(device.slot, device.queue, 0, 0)
    });
}

#[test]
fn an_available_index_that_runs_ahead() {
    each_fails_alone(|device, payload| {
        payload.store16(rings(device.slot, device.queue) + 0x402, 0xffff).kick(device.slot, device.queue)
    });
}

#[test]
fn rings_outside_ram() {
    each_fails_alone(|device, mut payload| {
        let set = |payload: Payload, offset, value| payload.store32(register(device.slot, offset), value);
        // By hand, with the used ring in the MMIO hole.
        for (offset, value) in [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11)] {
            payload = set(payload, offset, value);
        }
        let at = rings(device.slot, device.queue);
        for (offset, value) in [
            (0x30, device.queue),
            (0x38, 16),
            (0x80, at),
            (0x90, at + 0x400),
            (0xa0, 0xd000_0000),
            (0x44, 1),
            (0x70, 15),
        ] {
            payload = set(payload, offset, value);
        }
        payload
    });
}

#[test]
fn queue_registers_that_change_after_activation_change_nothing() {
    for device in &DEVICES {
        let mut payload = device.start(Payload::new()).store32(register(device.slot, 0x30), device.queue);
        for offset in [0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
            payload = payload.store32(register(device.slot, offset), 0xffff_0000);
            payload = payload.store32(register(device.slot, offset), 0);
        }
        let Some(bytes) = printed(device.serve(payload).print_status(device.slot)) else { return };
        assert_eq!(bytes, [RUNS], "{}", device.name);
    }
}

#[test]
fn a_flood_of_requests_is_served_to_its_end() {
    for device in DEVICES.iter().filter(|device| device.slot != CONSOLE) {
        let round =
            Payload::new().offer_next(device.slot, device.queue).wait_until_served(device.slot, device.queue);
        let payload = (device.request)(device.start(Payload::new())).repeat(2000, round);
        let Some(bytes) = printed(payload.print_status(device.slot)) else { return };
        assert_eq!(bytes, [RUNS], "{}", device.name);
    }
}
