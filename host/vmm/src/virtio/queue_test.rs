//! Chains, bounds and interrupts, seen through a device that records what it is given.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::virtio::testing::{Buffer, INDIRECT, Machine, NEXT, RAM, WRITE};
use crate::virtio::{Active, ConfigSpace, DeviceError, DeviceId, VirtioDevice};

type Seen = Arc<Mutex<Vec<(usize, usize)>>>;

/// Answers every chain with the length of its writable part, and keeps both lengths.
#[derive(Default)]
struct Recorder {
    seen: Seen,
    put_off: bool,
}

impl VirtioDevice for Recorder {
    fn id(&self) -> DeviceId {
        DeviceId::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[64]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[0]
    }

    fn config(&self) -> ConfigSpace {
        ConfigSpace::default()
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        let Some(queue) = active.queue(index) else { return Ok(()) };
        queue.handle(|chain| {
            if self.put_off {
                return Ok(Served::Later);
            }
            self.seen.lock().unwrap().push((chain.readable.len(), chain.writable.len()));
            Ok(Served::Used(chain.writable.len() as u32))
        })
    }
}

fn machine() -> (Machine, Seen) {
    let device = Recorder::default();
    let seen = device.seen.clone();
    (Machine::new(Box::new(device)), seen)
}

#[test]
fn a_chain_is_split_into_what_is_read_and_what_is_written() {
    let (mut machine, seen) = machine();
    let chain = [Buffer::read(0x10_0000, 3), Buffer::read(0x20_0000, 4), Buffer::write(0x30_0000, 5)];
    assert_eq!(machine.request(0, &chain), Some(5));
    assert_eq!(*seen.lock().unwrap(), [(7, 5)]);
}

#[test]
fn an_indirect_chain_is_the_same() {
    let (mut machine, seen) = machine();
    let head = machine.add_indirect(0, &[Buffer::read(0x10_0000, 3), Buffer::write(0x30_0000, 5)]);
    machine.kick(0);
    machine.run();
    assert_eq!(machine.used(0), [(head.into(), 5)]);
    assert_eq!(*seen.lock().unwrap(), [(3, 5)]);
}

#[test]
fn a_chain_that_is_put_off_stays_available() {
    let mut machine = Machine::new(Box::new(Recorder { put_off: true, ..Recorder::default() }));
    assert_eq!(machine.request(0, &[Buffer::write(0x10_0000, 5)]), None);
    assert!(!machine.failed());
    let queue = machine.transport.state().queues[0];
    assert_eq!((queue.next_available, queue.next_used), (0, 0));
}

#[test]
fn a_loop_of_descriptors_stops_the_device() {
    let (mut machine, seen) = machine();
    let table = machine.rings(0);
    machine.descriptor(table, 0, 0x10_0000, 8, NEXT, 1);
    machine.descriptor(table, 1, 0x10_0000, 8, NEXT, 0);
    machine.offer(0, 0);
    machine.kick(0);
    machine.run();
    assert!(machine.failed());
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_loop_in_an_indirect_table_stops_the_device() {
    let (mut machine, _) = machine();
    let table = machine.rings(0);
    machine.descriptor(0x10_0000, 0, 0x20_0000, 8, NEXT, 0);
    machine.descriptor(table, 0, 0x10_0000, 0xffff * 16, INDIRECT, 0);
    machine.offer(0, 0);
    machine.kick(0);
    machine.run();
    assert!(machine.failed());
}

#[test]
fn an_indirect_table_in_an_indirect_table_stops_the_device() {
    let (mut machine, _) = machine();
    let table = machine.rings(0);
    machine.descriptor(0x10_0000, 0, 0x10_0000, 16, INDIRECT, 0);
    machine.descriptor(table, 0, 0x10_0000, 16, INDIRECT, 0);
    machine.offer(0, 0);
    machine.kick(0);
    machine.run();
    assert!(machine.failed());
}

#[test]
fn an_address_outside_ram_stops_the_device() {
    for (address, length) in [(RAM, 1), (RAM - 4, 8), (u64::MAX - 3, 8), (0, u32::MAX)] {
        let (mut machine, seen) = machine();
        assert_eq!(machine.request(0, &[Buffer::read(address, length)]), None);
        assert!(machine.failed(), "{length} bytes at {address:#x}");
        assert!(seen.lock().unwrap().is_empty());
    }
}

#[test]
fn a_descriptor_index_out_of_the_table_stops_the_device() {
    for (head, next) in [(64, 0), (0, 64), (u16::MAX, 0), (0, u16::MAX)] {
        let (mut machine, _) = machine();
        machine.descriptor(machine.rings(0), 0, 0x10_0000, 8, NEXT, next);
        machine.offer(0, head);
        machine.kick(0);
        machine.run();
        assert!(machine.failed(), "head {head}, next {next}");
    }
}

#[test]
fn an_available_index_that_runs_ahead_of_the_ring_stops_the_device() {
    let (mut machine, seen) = machine();
    machine.set_available(0, 65);
    machine.kick(0);
    machine.run();
    assert!(machine.failed());
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn something_to_read_behind_something_to_write_stops_the_device() {
    let (mut machine, _) = machine();
    assert_eq!(machine.request(0, &[Buffer::write(0x10_0000, 8), Buffer::read(0x20_0000, 8)]), None);
    assert!(machine.failed());
}

#[test]
fn a_device_that_stopped_serves_again_after_a_reset() {
    let (mut machine, _) = machine();
    assert_eq!(machine.request(0, &[Buffer::read(RAM, 1)]), None);
    assert_eq!(machine.request(0, &[Buffer::read(0x10_0000, 1)]), None);
    machine.restart();
    assert!(!machine.failed());
    assert_eq!(machine.request(0, &[Buffer::write(0x10_0000, 1)]), Some(1));
}

#[test]
fn the_driver_is_interrupted_where_it_asked_to_be() {
    let (mut machine, _) = machine();
    machine.set_used_event(0, 2);
    let mut interrupted = Vec::new();
    for _ in 0..4 {
        machine.request(0, &[Buffer::read(0x10_0000, 1)]).unwrap();
        interrupted.push(machine.interrupt.reasons() != 0);
        machine.set(0x64, 1);
    }
    assert_eq!(interrupted, [false, false, true, false]);
}

#[test]
fn a_batch_costs_one_interrupt() {
    let (mut machine, seen) = machine();
    for _ in 0..10 {
        machine.add(0, &[Buffer::read(0x10_0000, 1)]);
    }
    machine.kick(0);
    machine.run();
    assert_eq!(seen.lock().unwrap().len(), 10);
    assert_eq!(machine.interrupt.event().read().unwrap(), 1);
}

#[test]
fn a_driver_without_event_idx_can_suppress_interrupts() {
    let mut machine = Machine::cold(Box::new(Recorder::default()));
    machine.negotiate(1 << 32);
    machine.place_queue(0);
    machine.set(0x70, 15);
    let flags = machine.rings(0) + 0x2000;
    machine.write(flags, &[1, 0]);
    assert_eq!(machine.request(0, &[Buffer::read(0x10_0000, 1)]), Some(0));
    assert_eq!(machine.interrupt.reasons(), 0);
    machine.write(flags, &[0, 0]);
    assert_eq!(machine.request(0, &[Buffer::read(0x10_0000, 1)]), Some(0));
    assert_eq!(machine.interrupt.reasons(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the table and the ring say: the device rests, and what it was given adds up to what was promised.
    #[test]
    fn random_tables_never_hang_or_escape_ram(
        descriptors in prop::collection::vec(
            (0u64..RAM + 0x1000, 0u32..0x2_0000, 0u16..8, 0u16..70), 64..=64),
        heads in prop::collection::vec(0u16..70, 0..70),
    ) {
        let (mut machine, seen) = machine();
        for (index, (address, length, flags, next)) in (0..).zip(&descriptors) {
            machine.descriptor(machine.rings(0), index, *address, *length, *flags, *next);
        }
        // The buffers may lie over the rings: the device only ever writes what it is told to.
        for head in &heads {
            machine.offer(0, *head);
        }
        machine.kick(0);
        machine.run();
        let served = seen.lock().unwrap().len();
        prop_assert!(served <= heads.len());
        prop_assert!(machine.failed() || served == heads.len());
    }

    /// Chains that keep the rules arrive complete and in order, however they are cut.
    #[test]
    fn well_formed_chains_arrive_as_they_were_sent(
        chains in prop::collection::vec(
            (prop::collection::vec(0u32..5000, 0..5), prop::collection::vec(0u32..5000, 1..5), any::<bool>()), 1..7),
    ) {
        let (mut machine, seen) = machine();
        let mut sent = Vec::new();
        for (readable, writable, indirect) in &chains {
            let buffers: Vec<Buffer> = readable.iter().map(|length| Buffer::read(0x80_0000, *length))
                .chain(writable.iter().map(|length| Buffer::write(0x90_0000, *length)))
                .collect();
            if *indirect { machine.add_indirect(0, &buffers) } else { machine.add(0, &buffers) };
            sent.push((readable.iter().sum::<u32>() as usize, writable.iter().sum::<u32>() as usize));
        }
        machine.kick(0);
        machine.run();
        prop_assert!(!machine.failed());
        prop_assert_eq!(&*seen.lock().unwrap(), &sent);
        let used: Vec<usize> = machine.used(0).into_iter().map(|(_, length)| length as usize).collect();
        prop_assert_eq!(used, sent.into_iter().map(|(_, writable)| writable).collect::<Vec<_>>());
    }
}

#[test]
fn descriptor_flags_are_those_of_the_specification() {
    use virtio_bindings::virtio_ring as ring;
    let flags = [ring::VRING_DESC_F_NEXT, ring::VRING_DESC_F_WRITE, ring::VRING_DESC_F_INDIRECT];
    assert_eq!(flags, [NEXT, WRITE, INDIRECT].map(u32::from));
}
