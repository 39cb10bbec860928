//! A driver for tests: runs a device through its registers and rings, and can break every rule on the way.
//!
//! Also compiled into the integration tests, so it uses only what the crate offers to everybody.

#![allow(missing_docs, dead_code, reason = "every test binary uses another part of it")]

use std::sync::Arc;

use theca_vmm::event_loop::EventLoop;
use theca_vmm::memory::GuestMemory;
use theca_vmm::virtio::{Interrupt, MmioTransport, VirtioDevice};
use vm_memory::{Bytes, GuestAddress};

/// Bytes of RAM, from address 0 on.
pub const RAM: u64 = 16 << 20;
/// Where each queue's rings are.
const RINGS: u64 = 0x1_0000;
const RINGS_STEP: u64 = 0x8000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x4000;
/// Where the buffers begin.
const BUFFERS: u64 = 1 << 20;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A descriptor of a chain: address, length, and whether the device writes it.
#[derive(Clone, Copy, Debug)]
pub struct Buffer(pub u64, pub u32, pub bool);

impl Buffer {
    pub fn read(address: u64, length: u32) -> Self {
        Self(address, length, false)
    }

    pub fn write(address: u64, length: u32) -> Self {
        Self(address, length, true)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct DriverQueue {
    size: u16,
    next_descriptor: u16,
    available: u16,
    seen: u16,
}

/// A device, its transport, RAM, and a driver's view of the queues.
pub struct Machine {
    pub memory: GuestMemory,
    pub transport: MmioTransport,
    pub events: Arc<EventLoop>,
    pub interrupt: Interrupt,
    queues: Vec<DriverQueue>,
    next_buffer: u64,
}

impl Machine {
    /// The device, running with all features it offers.
    pub fn new(device: Box<dyn VirtioDevice>) -> Self {
        let mut machine = Self::cold(device);
        machine.start();
        machine
    }

    /// The device as it comes out of a reset.
    pub fn cold(device: Box<dyn VirtioDevice>) -> Self {
        Self::on(Arc::new(EventLoop::new().unwrap()), device)
    }

    /// The same, served by a loop that may serve others.
    pub fn on(events: Arc<EventLoop>, device: Box<dyn VirtioDevice>) -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap();
        let interrupt = Interrupt::new().unwrap();
        let sizes = device.queue_sizes();
        let queues = sizes.iter().map(|size| DriverQueue { size: *size, ..DriverQueue::default() }).collect();
        let transport =
            MmioTransport::new(device, memory.clone(), interrupt.clone(), &events.handle()).unwrap();
        Self { memory, transport, events, interrupt, queues, next_buffer: BUFFERS }
    }

    /// What a driver does to run a device.
    pub fn start(&mut self) {
        self.negotiate(u64::MAX);
        for number in 0..self.queues.len() {
            self.place_queue(number);
        }
        self.set(0x70, 15);
        self.run();
    }

    /// Up to FEATURES_OK, with those offered features that are in `wanted`.
    pub fn negotiate(&mut self, wanted: u64) {
        self.set(0x70, 1);
        self.set(0x70, 3);
        for word in 0..2 {
            self.set(0x14, word);
            self.set(0x24, word);
            let offered = self.get(0x10);
            self.set(0x20, offered & (wanted >> (32 * word)) as u32);
        }
        self.set(0x70, 11);
        assert_eq!(self.get(0x70), 11, "features refused");
    }

    pub fn place_queue(&mut self, number: usize) {
        let rings = self.rings(number);
        let size = self.queues[number].size;
        self.queues[number] = DriverQueue { size, ..DriverQueue::default() };
        self.memory.write_slice(&[0; RINGS_STEP as usize], GuestAddress(rings)).unwrap();
        self.set(0x30, number as u32);
        self.set(0x38, size.into());
        for (register, address) in [(0x80, rings), (0x90, rings + AVAILABLE), (0xa0, rings + USED)] {
            self.set(register, address as u32);
            self.set(register + 4, (address >> 32) as u32);
        }
        self.set(0x44, 1);
    }

    /// Resets and starts again.
    pub fn restart(&mut self) {
        self.set(0x70, 0);
        self.start();
    }

    pub fn get(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        self.transport.read(register, &mut word);
        u32::from_le_bytes(word)
    }

    pub fn set(&self, register: u64, value: u32) {
        self.transport.write(register, &value.to_le_bytes());
    }

    /// Whether the device asks for a reset.
    pub fn failed(&self) -> bool {
        self.get(0x70) & 0x40 != 0
    }

    /// Serves until nothing is left to do; a device must come to rest.
    pub fn run(&self) {
        for _ in 0..100_000 {
            if self.events.turn(0).unwrap() == 0 {
                return;
            }
        }
        panic!("the device never comes to rest");
    }

    /// Pages that nobody else uses.
    pub fn buffer(&mut self, length: u64) -> u64 {
        let address = self.next_buffer;
        self.next_buffer = (address + length).next_multiple_of(4096);
        assert!(self.next_buffer <= RAM);
        address
    }

    pub fn write(&self, address: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(address)).unwrap();
    }

    pub fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        self.memory.read_slice(&mut data, GuestAddress(address)).unwrap();
        data
    }

    /// Address of a queue's descriptor table.
    pub fn rings(&self, queue: usize) -> u64 {
        RINGS + queue as u64 * RINGS_STEP
    }

    /// Writes one descriptor into a table.
    pub fn descriptor(&self, table: u64, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.write(table + u64::from(index) * 16, &bytes);
    }

    /// Makes a chain available; answers its first descriptor.
    pub fn add(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let (table, size) = (self.rings(queue), self.queues[queue].size);
        let first = self.queues[queue].next_descriptor;
        for (index, Buffer(address, length, writable)) in (0..).zip(buffers) {
            let here = (first + index) % size;
            let more = if usize::from(index) + 1 < buffers.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            self.descriptor(table, here, *address, *length, flags, (here + 1) % size);
        }
        self.queues[queue].next_descriptor = (first + buffers.len() as u16) % size;
        self.offer(queue, first);
        first
    }

    /// Makes a chain available by way of an indirect table.
    pub fn add_indirect(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let table = self.buffer(buffers.len() as u64 * 16);
        for (index, Buffer(address, length, writable)) in (0..).zip(buffers) {
            let more = if usize::from(index) + 1 < buffers.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            self.descriptor(table, index, *address, *length, flags, index + 1);
        }
        let first = self.queues[queue].next_descriptor;
        self.descriptor(self.rings(queue), first, table, buffers.len() as u32 * 16, INDIRECT, 0);
        self.queues[queue].next_descriptor = (first + 1) % self.queues[queue].size;
        self.offer(queue, first);
        first
    }

    /// Puts `head` into the available ring.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let DriverQueue { size, available, .. } = self.queues[queue];
        let ring = self.rings(queue) + AVAILABLE;
        self.write(ring + 4 + 2 * u64::from(available % size), &head.to_le_bytes());
        self.set_available(queue, available.wrapping_add(1));
    }

    /// Sets the index of the available ring.
    pub fn set_available(&mut self, queue: usize, index: u16) {
        self.queues[queue].available = index;
        self.write(self.rings(queue) + AVAILABLE + 2, &index.to_le_bytes());
    }

    /// From which used entry on the driver wants an interrupt.
    pub fn set_used_event(&self, queue: usize, index: u16) {
        let size = u64::from(self.queues[queue].size);
        self.write(self.rings(queue) + AVAILABLE + 4 + 2 * size, &index.to_le_bytes());
    }

    pub fn kick(&self, queue: usize) {
        self.set(0x50, queue as u32);
    }

    /// What was used since the last call: first descriptor and bytes written.
    pub fn used(&mut self, queue: usize) -> Vec<(u32, u32)> {
        let ring = self.rings(queue) + USED;
        let index = u16::from_le_bytes(self.read(ring + 2, 2).try_into().unwrap());
        let mut used = Vec::new();
        while self.queues[queue].seen != index {
            let DriverQueue { size, seen, .. } = self.queues[queue];
            let entry = self.read(ring + 4 + 8 * u64::from(seen % size), 8);
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
            used.push((word(0), word(4)));
            self.queues[queue].seen = seen.wrapping_add(1);
        }
        used
    }

    /// One request from start to end; `None` if it was not answered.
    pub fn request(&mut self, queue: usize, buffers: &[Buffer]) -> Option<u32> {
        let head = self.add(queue, buffers);
        self.kick(queue);
        self.run();
        self.used(queue).into_iter().find(|(first, _)| *first == u32::from(head)).map(|(_, length)| length)
    }
}
