//! A device whose requests wait until the test lets them go on, served by several threads.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::*;
use crate::event_loop::{EventLoop, Handle};
use crate::virtio::testing::{Buffer, Machine, NEXT, WRITE};
use crate::virtio::{ConfigSpace, DeviceId, VirtioDevice};

const HELPERS: usize = 2;
/// Requests from this number on need no waiting.
const QUICK: u8 = 0x80;

/// Which requests began, on which thread, and which may end. A request is a readable byte, its number, and a writable one.
#[derive(Clone, Default)]
struct Gate {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    begun: Vec<(u8, ThreadId)>,
    open: HashSet<u8>,
}

impl Requests for Gate {
    fn perform(&self, chain: &mut Chain<'_>, waits: &mut dyn FnMut()) -> u32 {
        let mut number = [0];
        chain.readable.read(&mut number).unwrap();
        let (state, changed) = &*self.shared;
        if number[0] < QUICK {
            waits();
        }
        let mut state = state.lock().unwrap();
        state.begun.push((number[0], thread::current().id()));
        while number[0] < QUICK && !state.open.contains(&number[0]) {
            state = changed.wait(state).unwrap();
        }
        chain.writable.write(&[number[0]]).unwrap();
        1
    }
}

impl Gate {
    fn open(&self, numbers: impl IntoIterator<Item = u8>) {
        self.shared.0.lock().unwrap().open.extend(numbers);
        self.shared.1.notify_all();
    }

    fn begun(&self) -> Vec<u8> {
        self.shared.0.lock().unwrap().begun.iter().map(|(number, _)| *number).collect()
    }

    fn wait_begun(&self, count: usize) {
        wait(|| self.begun().len() == count);
    }
}

struct Slow(Gate, Helpers);

impl VirtioDevice for Slow {
    fn id(&self) -> DeviceId {
        DeviceId::Block
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[32]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[]
    }

    fn config(&self) -> ConfigSpace {
        ConfigSpace::default()
    }

    fn overlap(&self) -> Option<Overlap> {
        Some(Overlap { requests: Arc::new(self.0.clone()), helpers: self.1.clone() })
    }
}

/// A device in a machine, and what holds its requests.
struct Guest {
    machine: Machine,
    gate: Gate,
}

/// The threads of a loop; they end with it.
struct Threads {
    events: Handle,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.events.stop();
        self.threads.drain(..).for_each(|thread| thread.join().unwrap().unwrap());
    }
}

/// So many guests at one loop, which has its threads.
fn guests(count: usize) -> (Vec<Guest>, Threads) {
    let events = Arc::new(EventLoop::for_threads(count + HELPERS).unwrap());
    let helpers = Helpers::new(HELPERS);
    let guest = |_| {
        let gate = Gate::default();
        let device = Box::new(Slow(gate.clone(), helpers.clone()));
        let mut machine = Machine::on(events.clone(), device);
        machine.start();
        Guest { machine, gate }
    };
    let guests = (0..count).map(guest).collect();
    let spawn = |_| {
        let events = events.clone();
        thread::spawn(move || events.run())
    };
    (guests, Threads { events: events.handle(), threads: (0..events.threads()).map(spawn).collect() })
}

fn guest() -> (Guest, Threads) {
    let (mut guests, threads) = guests(1);
    (guests.remove(0), threads)
}

impl Guest {
    /// Makes a request available and kicks; answers its first descriptor.
    fn request(&mut self, number: u8) -> u32 {
        let head = self.add(number);
        self.machine.kick(0);
        head
    }

    fn add(&mut self, number: u8) -> u32 {
        let page = self.machine.buffer(2);
        self.machine.write(page, &[number]);
        self.machine.add(0, &[Buffer::read(page, 1), Buffer::write(page + 1, 1)]).into()
    }

    /// The heads that the next `count` answers name, in their order.
    fn answers(&mut self, count: usize) -> Vec<u32> {
        let mut heads = Vec::new();
        wait(|| {
            heads.extend(self.machine.used(0).into_iter().map(|(head, _)| head));
            heads.len() >= count
        });
        assert_eq!(heads.len(), count);
        heads
    }
}

fn wait(mut until: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !until() {
        assert!(begin.elapsed() < Duration::from_secs(20), "it never happens");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Long enough for what must not happen.
fn a_while() {
    thread::sleep(Duration::from_millis(30));
}

#[test]
fn a_request_that_waits_is_overtaken() {
    let (mut guest, _threads) = guest();
    let (first, second) = (guest.add(1), guest.request(2));
    guest.gate.wait_begun(2);
    guest.gate.open([2]);
    assert_eq!(guest.answers(1), [second]);
    // One that comes later is as quick.
    let third = guest.request(3);
    guest.gate.open([3]);
    assert_eq!(guest.answers(1), [third]);
    guest.gate.open([1]);
    assert_eq!(guest.answers(1), [first]);
}

#[test]
fn in_flight_are_as_many_as_there_are_helpers_and_one_more() {
    let (mut guest, _threads) = guest();
    let heads: Vec<u32> = (1..=9).map(|number| guest.request(number)).collect();
    guest.gate.wait_begun(1 + HELPERS);
    a_while();
    assert_eq!(guest.gate.begun().len(), 1 + HELPERS);
    guest.gate.open(1..=9);
    let answered: HashSet<u32> = guest.answers(9).into_iter().collect();
    assert_eq!(answered, heads.into_iter().collect());
    // All helpers are free again.
    (11..=13).for_each(|number| _ = guest.request(number));
    guest.gate.wait_begun(9 + 3);
    guest.gate.open(11..=13);
    guest.answers(3);
}

#[test]
fn requests_that_need_no_waiting_are_served_in_order_by_one_thread() {
    let (mut guest, _threads) = guest();
    let mut heads: Vec<u32> = (0..9).map(|number| guest.add(QUICK + number)).collect();
    heads.push(guest.request(QUICK + 9));
    assert_eq!(guest.answers(10), heads);
    let state = guest.gate.shared.0.lock().unwrap();
    assert_eq!(state.begun.iter().map(|(_, thread)| *thread).collect::<HashSet<_>>().len(), 1);
}

#[test]
fn a_device_that_hangs_holds_up_no_other() {
    let (mut guests, _threads) = guests(3);
    for number in 1..=5 {
        guests[0].request(number);
        guests[1].request(number);
    }
    // Both helpers are taken, by whom does not matter.
    wait(|| guests[0].gate.begun().len() + guests[1].gate.begun().len() == 2 + HELPERS);
    for number in 1..=5 {
        let head = guests[2].request(number);
        guests[2].gate.open([number]);
        assert_eq!(guests[2].answers(1), [head]);
    }
    guests[..2].iter().for_each(|guest| guest.gate.open(1..=5));
    guests[0].answers(5);
    guests[1].answers(5);
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_begins_nothing_more() {
    let (mut guest, _threads) = guest();
    (1..=5).for_each(|number| _ = guest.request(number));
    guest.gate.wait_begun(1 + HELPERS);
    thread::scope(|scope| {
        let machine = &guest.machine;
        let reset = scope.spawn(|| machine.transport.write(0x70, &[0; 4]));
        a_while();
        guest.gate.open([1, 2]);
        a_while();
        assert!(!reset.is_finished(), "reset while a request is in flight");
        guest.gate.open([3]);
        reset.join().unwrap();
    });
    assert_eq!(guest.gate.begun().len(), 1 + HELPERS);
    assert!(guest.machine.used(0).is_empty(), "answered after the reset");
    guest.machine.start();
    let head = guest.request(QUICK);
    assert_eq!(guest.answers(1), [head]);
}

#[test]
fn a_pause_answers_what_is_in_flight_first() {
    let (mut guest, threads) = guest();
    let heads = HashSet::from([guest.request(1), guest.request(2)]);
    guest.gate.wait_begun(2);
    thread::scope(|scope| {
        let pause = scope.spawn(|| threads.events.pause());
        guest.gate.open([2]);
        a_while();
        assert!(!pause.is_finished(), "paused while a request is in flight");
        guest.gate.open([1]);
        pause.join().unwrap();
    });
    let queue = guest.machine.transport.state().queues[0];
    assert_eq!((queue.next_available, queue.next_used), (2, 2));
    assert_eq!(guest.machine.used(0).into_iter().map(|(head, _)| head).collect::<HashSet<_>>(), heads);
    let head = guest.request(QUICK);
    a_while();
    assert!(guest.machine.used(0).is_empty(), "served while paused");
    threads.events.resume();
    assert_eq!(guest.answers(1), [head]);
}

#[test]
fn a_chain_that_is_offered_again_while_in_flight_is_served_twice() {
    let (mut guest, _threads) = guest();
    let head = guest.request(1);
    guest.gate.wait_begun(1);
    guest.machine.offer(0, head as u16);
    guest.machine.kick(0);
    guest.gate.wait_begun(2);
    guest.gate.open([1]);
    assert_eq!(guest.answers(2), [head, head]);
    assert!(!guest.machine.failed());
}

#[test]
fn a_broken_chain_ends_the_device_and_a_reset_still_waits_for_the_rest() {
    let (mut guest, _threads) = guest();
    guest.request(1);
    guest.gate.wait_begun(1);
    let table = guest.machine.rings(0);
    guest.machine.descriptor(table, 20, 1 << 20, 1, NEXT | WRITE, 20);
    guest.machine.offer(0, 20);
    guest.machine.kick(0);
    wait(|| guest.machine.failed());
    thread::scope(|scope| {
        let machine = &guest.machine;
        let reset = scope.spawn(|| machine.transport.write(0x70, &[0; 4]));
        a_while();
        assert!(!reset.is_finished(), "reset while a request is in flight");
        guest.gate.open([1]);
        reset.join().unwrap();
    });
    assert!(guest.machine.used(0).is_empty(), "answered by a device that failed");
    guest.machine.start();
    assert!(!guest.machine.failed());
    let head = guest.request(QUICK);
    assert_eq!(guest.answers(1), [head]);
}
