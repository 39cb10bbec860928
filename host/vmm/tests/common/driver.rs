//! A virtio driver in machine code: 32-bit, without interrupts, one instruction per register and field.
//!
//! Devices sit in MMIO slots in the order console, balloon, rng, vsock, disks, as far as the VM has them.

use super::payload::Payload;

/// Slot of the console.
pub const CONSOLE: u32 = 0;
/// Slot of the balloon.
pub const BALLOON: u32 = 1;
/// Slot of the first device that a test asked for.
pub const FIRST: u32 = 2;

/// Free memory for buffers.
pub const BUFFER: u32 = 0x80_0000;

/// The descriptor goes on.
pub const NEXT: u16 = 1;
/// The device writes.
pub const WRITE: u16 = 2;

/// Entries of every queue.
const SIZE: u32 = 16;
const RINGS: u32 = 0x40_0000;
const AVAILABLE: u32 = 0x400;
const USED: u32 = 0x800;

const QUEUE_NOTIFY: u32 = 0x50;
const STATUS: u32 = 0x70;

/// Address of a register.
pub fn register(slot: u32, offset: u32) -> u32 {
    0xd000_0000 + slot * 0x1000 + offset
}

/// Address of a queue's descriptor table.
pub fn rings(slot: u32, queue: u32) -> u32 {
    RINGS + slot * 0x1_0000 + queue * 0x1000
}

/// Address of the length in used entry `position`.
pub fn used_length(slot: u32, queue: u32, position: u32) -> u32 {
    rings(slot, queue) + USED + 4 + position * 8 + 4
}

impl Payload {
    /// `mov dword [address], value`
    pub fn store32(self, address: u32, value: u32) -> Self {
        self.bytes(&[0xc7, 0x05]).bytes(&address.to_le_bytes()).bytes(&value.to_le_bytes())
    }

    /// `mov word [address], value`
    pub fn store16(self, address: u32, value: u16) -> Self {
        self.bytes(&[0x66, 0xc7, 0x05]).bytes(&address.to_le_bytes()).bytes(&value.to_le_bytes())
    }

    /// Writes bytes, four at a time, zeroes behind them.
    pub fn store_bytes(self, address: u32, bytes: &[u8]) -> Self {
        (address..).step_by(4).zip(bytes.chunks(4)).fold(self, |payload, (address, chunk)| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            payload.store32(address, u32::from_le_bytes(word))
        })
    }

    /// `mov eax, [from]; mov [to], eax`
    pub fn copy32(self, from: u32, to: u32) -> Self {
        self.bytes(&[0xa1]).bytes(&from.to_le_bytes()).bytes(&[0xa3]).bytes(&to.to_le_bytes())
    }

    /// `again: mov eax, [address]; test eax, bits; jz again`
    pub fn wait_for_bits(self, address: u32, bits: u32) -> Self {
        self.bytes(&[0xa1])
            .bytes(&address.to_le_bytes())
            .bytes(&[0xa9])
            .bytes(&bits.to_le_bytes())
            .bytes(&[0x74, 0xf4])
    }

    /// `again: cmp word [address], value; jne again`
    pub fn wait_for(self, address: u32, value: u16) -> Self {
        self.bytes(&[0x66, 0x81, 0x3d])
            .bytes(&address.to_le_bytes())
            .bytes(&value.to_le_bytes())
            .bytes(&[0x75, 0xf5])
    }

    /// `mov ecx, count; again: <body>; dec ecx; jnz again`; the body must leave ECX alone.
    pub fn repeat(self, count: u32, body: Payload) -> Self {
        let body = body.into_bytes();
        let back = -(body.len() as i32 + 1 + 6);
        self.bytes(&[0xb9])
            .bytes(&count.to_le_bytes())
            .bytes(&body)
            .bytes(&[0x49, 0x0f, 0x85])
            .bytes(&back.to_le_bytes())
    }

    /// Resets a device and runs it with its first `queues` queues.
    pub fn start_device(self, slot: u32, queues: u32) -> Self {
        let set = |payload: Self, offset, value| payload.store32(register(slot, offset), value);
        let mut payload = self;
        // VERSION_1 and nothing else.
        for (offset, value) in
            [(STATUS, 0), (STATUS, 1), (STATUS, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 0), (STATUS, 11)]
        {
            payload = set(payload, offset, value);
        }
        for queue in 0..queues {
            let at = rings(slot, queue);
            payload = payload.store32(at + AVAILABLE, 0).store32(at + USED, 0);
            for (offset, value) in [
                (0x30, queue),
                (0x38, SIZE),
                (0x80, at),
                (0x90, at + AVAILABLE),
                (0xa0, at + USED),
                (0x44, 1),
            ] {
                payload = set(payload, offset, value);
            }
        }
        set(payload, STATUS, 15)
    }

    /// Writes a descriptor.
    pub fn descriptor(self, at: (u32, u32, u32), address: u64, length: u32, flags: u16, next: u16) -> Self {
        let (slot, queue, index) = at;
        let at = rings(slot, queue) + index * 16;
        self.store32(at, address as u32)
            .store32(at + 4, (address >> 32) as u32)
            .store32(at + 8, length)
            .store32(at + 12, u32::from(flags) | u32::from(next) << 16)
    }

    /// Makes `head` the chain at `position` of the available ring, and kicks.
    pub fn offer(self, slot: u32, queue: u32, position: u32, head: u16) -> Self {
        let ring = rings(slot, queue) + AVAILABLE;
        self.store16(ring + 4 + position % SIZE * 2, head)
            .store16(ring + 2, position as u16 + 1)
            .kick(slot, queue)
    }

    /// `inc word [available index]`, and kicks: offers whatever the ring says next.
    pub fn offer_next(self, slot: u32, queue: u32) -> Self {
        let index = rings(slot, queue) + AVAILABLE + 2;
        self.bytes(&[0x66, 0xff, 0x05]).bytes(&index.to_le_bytes()).kick(slot, queue)
    }

    /// Waits until everything offered was used: `again: mov ax, [available index]; cmp ax, [used index]; jne again`
    pub fn wait_until_served(self, slot: u32, queue: u32) -> Self {
        let (available, used) = (rings(slot, queue) + AVAILABLE + 2, rings(slot, queue) + USED + 2);
        self.bytes(&[0x66, 0xa1])
            .bytes(&available.to_le_bytes())
            .bytes(&[0x66, 0x3b, 0x05])
            .bytes(&used.to_le_bytes())
            .bytes(&[0x75, 0xf1])
    }

    /// Tells the device to look at a queue.
    pub fn kick(self, slot: u32, queue: u32) -> Self {
        self.store32(register(slot, QUEUE_NOTIFY), queue)
    }

    /// Waits until so many chains were used.
    pub fn wait_used(self, slot: u32, queue: u32, count: u16) -> Self {
        self.wait_for(rings(slot, queue) + USED + 2, count)
    }

    /// Waits until the device asks for a reset.
    pub fn wait_failed(self, slot: u32) -> Self {
        self.wait_for_bits(register(slot, STATUS), 0x40)
    }

    /// Prints the status register as a byte.
    pub fn print_status(self, slot: u32) -> Self {
        self.copy32(register(slot, STATUS), 0x9000).print_memory(0x9000, 1)
    }

    /// Asks the rng in `slot` for 16 bytes and waits; its queue must be fresh.
    pub fn use_rng(self, slot: u32) -> Self {
        self.descriptor((slot, 0, 0), BUFFER.into(), 16, WRITE, 0).offer(slot, 0, 0, 0).wait_used(slot, 0, 1)
    }
}
