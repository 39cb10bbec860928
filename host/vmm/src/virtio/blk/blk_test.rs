use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::event_loop::EventLoop;
use crate::virtio::testing::{Buffer, Machine};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A machine with one disk, and the file behind it.
struct Guest {
    machine: Machine,
    slot: Slot,
    file: File,
    header: u64,
    data: u64,
    status: u64,
}

fn guest(sectors: u64, read_only: bool) -> Guest {
    let file = tempfile::tempfile().unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    let slot = Slot::with(Disk::open(file.try_clone().unwrap(), read_only, "serial").unwrap());
    guest_of(slot, file)
}

fn guest_of(slot: Slot, file: File) -> Guest {
    let mut machine = Machine::new(Box::new(Block::new(slot.clone(), Helpers::default())));
    let (header, data, status) = (machine.buffer(16), machine.buffer(1 << 20), machine.buffer(1));
    Guest { machine, slot, file, header, data, status }
}

impl Guest {
    /// One request; answers its status byte and what was used.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        self.prepare(kind, sector);
        let chain = self.chain(data);
        let used = self.machine.request(0, &chain).expect("not answered");
        (self.machine.read(self.status, 1)[0], used)
    }

    fn prepare(&mut self, kind: u32, sector: u64) {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat();
        self.machine.write(self.header, &header);
        self.machine.write(self.status, &[0xff]);
    }

    fn chain(&self, data: &[Buffer]) -> Vec<Buffer> {
        let mut chain = vec![Buffer::read(self.header, 16)];
        chain.extend(data);
        chain.push(Buffer::write(self.status, 1));
        chain
    }

    fn capacity(&self) -> u64 {
        let mut capacity = [0; 8];
        self.machine.transport.read(0x100, &mut capacity);
        u64::from_le_bytes(capacity)
    }
}

#[test]
fn what_is_written_is_read_back_through_scattered_buffers() {
    let mut guest = guest(64, false);
    let text: Vec<u8> = (0..4096).map(|index| index as u8).collect();
    guest.machine.write(guest.data, &text);
    let scattered = [Buffer::read(guest.data, 1000), Buffer::read(guest.data + 1000, 3096)];
    assert_eq!(guest.request(1, 8, &scattered), (OK, 1));
    let mut written = vec![0; 4096];
    guest.file.read_exact_at(&mut written, 8 * 512).unwrap();
    assert_eq!(written, text);

    let target = guest.data + 0x1_0000;
    let pieces =
        [Buffer::write(target, 1), Buffer::write(target + 1, 511), Buffer::write(target + 512, 3584)];
    assert_eq!(guest.request(0, 8, &pieces), (OK, 4097));
    assert_eq!(guest.machine.read(target, 4096), text);
    let counters = guest.slot.counters();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((load(&counters.read_bytes), load(&counters.written_bytes)), (4096, 4096));
}

#[test]
fn requests_of_any_layout_are_understood() {
    // Header in two parts, and the status byte at the end of the data.
    let mut guest = guest(8, false);
    guest.prepare(0, 0);
    let chain =
        [Buffer::read(guest.header, 5), Buffer::read(guest.header + 5, 11), Buffer::write(guest.data, 513)];
    assert_eq!(guest.machine.request(0, &chain), Some(513));
    assert_eq!(guest.machine.read(guest.data + 512, 1), [OK]);
}

#[test]
fn a_flush_is_answered() {
    let mut guest = guest(8, false);
    assert_eq!(guest.request(4, 0, &[]), (OK, 1));
}

#[test]
fn the_serial_number_is_padded_to_twenty_bytes() {
    let mut guest = guest(8, false);
    let data = guest.data;
    assert_eq!(guest.request(8, 0, &[Buffer::write(data, 20)]), (OK, 21));
    assert_eq!(guest.machine.read(data, 20), b"serial\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn discarded_sectors_are_given_back() {
    let mut guest = guest(2048, false);
    guest.file.write_all_at(&[7; 1 << 20], 0).unwrap();
    let before = guest.file.metadata().unwrap().blocks();
    let range = [&0u64.to_le_bytes()[..], &1024u32.to_le_bytes(), &0u32.to_le_bytes()].concat();
    guest.machine.write(guest.data, &range);
    let data = guest.data;
    assert_eq!(guest.request(11, 0, &[Buffer::read(data, 16)]), (OK, 1));
    assert!(guest.file.metadata().unwrap().blocks() < before);
    assert_eq!(guest.file.metadata().unwrap().len(), 1 << 20);
}

#[test]
fn zeroed_sectors_read_as_zeroes_and_their_neighbours_stay() {
    for unmap in [0u32, 1] {
        let mut guest = guest(64, false);
        guest.file.write_all_at(&[7; 64 * 512], 0).unwrap();
        let range = [&1u64.to_le_bytes()[..], &2u32.to_le_bytes(), &unmap.to_le_bytes()].concat();
        guest.machine.write(guest.data, &range);
        let data = guest.data;
        assert_eq!(guest.request(13, 0, &[Buffer::read(data, 16)]), (OK, 1));
        let mut bytes = vec![0; 4 * 512];
        guest.file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(bytes[..512].iter().chain(&bytes[1536..]).all(|byte| *byte == 7));
        assert!(bytes[512..1536].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn requests_of_a_full_queue_done_by_several_threads_all_reach_their_sectors() {
    const REQUESTS: u64 = 32;
    let file = tempfile::tempfile().unwrap();
    file.set_len(REQUESTS * SECTOR).unwrap();
    let slot = Slot::with(Disk::open(file.try_clone().unwrap(), false, "serial").unwrap());
    let events = Arc::new(EventLoop::for_threads(3).unwrap());
    let mut machine = Machine::on(events.clone(), Box::new(Block::new(slot, Helpers::new(2))));
    machine.start();
    let page = machine.buffer(REQUESTS * 4096);
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(|| events.run().unwrap())));
        // Written, read back to another place, and in between made durable over and over.
        for (kind, data, writable) in [(1u32, 512, false), (4, 512, false), (0, 1024, true)] {
            for sector in 0..REQUESTS {
                let at = page + sector * 4096;
                machine.write(at, &[&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat());
                machine.write(at + 512, &[sector as u8 + 1; 512]);
                machine.write(at + 16, &[0xff]);
                let chain =
                    [Buffer::read(at, 16), Buffer(at + data, 512, writable), Buffer::write(at + 16, 1)];
                machine.add(0, &chain);
            }
            machine.kick(0);
            let begin = Instant::now();
            let mut used = Vec::new();
            while used.len() < REQUESTS as usize {
                assert!(begin.elapsed() < Duration::from_secs(20), "{} were answered", used.len());
                used.extend(machine.used(0));
            }
            for sector in 0..REQUESTS {
                assert_eq!(machine.read(page + sector * 4096 + 16, 1), [OK]);
            }
        }
        events.handle().stop();
    });
    for sector in 0..REQUESTS {
        let mut written = [0; 512];
        file.read_exact_at(&mut written, sector * SECTOR).unwrap();
        assert_eq!(written, [sector as u8 + 1; 512]);
        assert_eq!(machine.read(page + sector * 4096 + 1024, 512), written);
    }
}

#[test]
fn a_read_only_disk_says_so_and_means_it() {
    let mut guest = guest(8, true);
    guest.machine.set(0x14, 0);
    assert_eq!(guest.machine.get(0x10) & 1 << VIRTIO_BLK_F_RO, 1 << VIRTIO_BLK_F_RO);
    let data = guest.data;
    guest.machine.write(data, &[7; 512]);
    assert_eq!(guest.request(1, 0, &[Buffer::read(data, 512)]), (IOERR, 1));
    let mut bytes = [1; 512];
    guest.file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 512]);
}

#[test]
fn an_empty_slot_receives_its_disk_while_the_guest_runs() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(16 * SECTOR).unwrap();
    let mut guest = guest_of(Slot::empty(), file.try_clone().unwrap());
    let data = guest.data;
    assert_eq!((guest.capacity(), guest.machine.get(0xfc)), (0, 0));
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (IOERR, 1));
    guest.machine.set(0x64, 3);

    guest.slot.attach(Disk::open(file, false, "late").unwrap()).unwrap();
    assert_eq!((guest.capacity(), guest.machine.get(0xfc)), (16, 1));
    assert_eq!(guest.machine.get(0x60), 2, "no configuration interrupt");
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (OK, 513));

    let second = Disk::open(tempfile::tempfile().unwrap(), false, "").unwrap();
    assert_eq!(guest.slot.attach(second), Err(AttachError));
}

#[test]
fn a_slot_gets_one_disk_after_the_other() {
    let mut guest = guest(16, false);
    let data = guest.data;
    guest.slot.detach();
    guest.slot.detach();
    assert_eq!(guest.capacity(), 0);
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (IOERR, 1));

    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * 512).unwrap();
    file.write_all_at(b"second", 0).unwrap();
    guest.slot.attach(Disk::open(file, false, "second").unwrap()).unwrap();
    assert_eq!(guest.capacity(), 8);
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (OK, 513));
    assert_eq!(guest.machine.read(data, 6), b"second");
    assert_eq!(guest.request(0, 8, &[Buffer::write(data, 512)]), (IOERR, 1), "inside the first disk only");
}

#[test]
fn a_wrong_request_fails_alone() {
    let mut guest = guest(8, false);
    let data = guest.data;
    assert_eq!(guest.request(0, 8, &[Buffer::write(data, 512)]), (IOERR, 1));
    assert_eq!(guest.request(0, u64::MAX, &[Buffer::write(data, 512)]), (IOERR, 1));
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 100)]), (IOERR, 1));
    assert_eq!(guest.request(77, 0, &[]), (UNSUPPORTED, 1));
    // Not even a header, and nowhere to say so.
    let header = guest.header;
    assert_eq!(guest.machine.request(0, &[Buffer::read(header, 4)]), Some(0));
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (OK, 513));
    assert!(!guest.machine.failed());
}

#[test]
fn a_file_that_shrank_is_an_error_of_the_request() {
    let mut guest = guest(16, false);
    guest.file.set_len(512).unwrap();
    let data = guest.data;
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 1024)]), (IOERR, 1));
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (OK, 513));
}

#[test]
fn a_saved_disk_continues_where_it_was() {
    let mut guest = guest(16, false);
    let data = guest.data;
    assert_eq!(guest.request(0, 0, &[Buffer::write(data, 512)]), (OK, 513));
    // Made available but not kicked: the snapshot comes in between.
    guest.prepare(0, 1);
    guest.file.write_all_at(&[9; 512], 512).unwrap();
    let chain = guest.chain(&[Buffer::write(data, 512)]);
    guest.machine.add(0, &chain);
    let json = serde_json::to_string(&guest.machine.transport.state()).unwrap();

    let state = serde_json::from_str(&json).unwrap();
    let (events, interrupt) = (&guest.machine.events, crate::virtio::Interrupt::new().unwrap());
    let device = Box::new(Block::new(guest.slot.clone(), Helpers::default()));
    let memory = guest.machine.memory.clone();
    let restored =
        crate::virtio::MmioTransport::restore(device, memory, interrupt, &events.handle(), &state).unwrap();
    guest.machine.run();
    assert_eq!(guest.machine.read(guest.status, 1), [OK]);
    assert_eq!(guest.machine.read(data, 512), [9; 512]);
    assert_eq!(restored.state().queues[0].next_used, 2);
}

#[test]
fn a_saved_disk_does_not_continue_on_one_of_another_size() {
    let saved = guest(16, false).machine.transport.state();
    let other = guest(17, false);
    let device = Box::new(Block::new(other.slot.clone(), Helpers::default()));
    let (memory, events) = (other.machine.memory.clone(), other.machine.events.handle());
    let interrupt = crate::virtio::Interrupt::new().unwrap();
    let restored = crate::virtio::MmioTransport::restore(device, memory, interrupt, &events, &saved);
    assert!(matches!(restored, Err(crate::virtio::RestoreError::Config)));
}
