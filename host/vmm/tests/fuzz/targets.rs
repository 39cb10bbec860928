//! What is fuzzed, and what must hold whatever comes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use theca_vmm::virtio::balloon::Balloon;
use theca_vmm::virtio::blk::{Block, Disk, Slot};
use theca_vmm::virtio::console::{Console, MAX_BYTES as CONSOLE_BYTES};
use theca_vmm::virtio::rng::Rng;
use theca_vmm::virtio::transport::{Effect, Registers};
use theca_vmm::virtio::vsock::{self, HEADER, Header, Line, MAX_HANDSHAKES, Op, Vsock};
use theca_vmm::virtio::{
    Active, ConfigSpace, DeviceError, DeviceId, DeviceState, Helpers, Interrupt, MmioTransport, Served,
    VirtioDevice,
};

use super::testing::{Buffer, Machine, RAM};

/// Bytes of an input, taken one value after the other; zeroes when they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        let count = N.min(self.0.len());
        value[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        value
    }

    fn u8(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// Mostly in RAM, some at its end, some in the rings, some nowhere.
    fn address(&mut self) -> u64 {
        match self.u8() % 8 {
            0 => self.u64(),
            1 => RAM - u64::from(self.u8()),
            2 => 0x1_0000 + u64::from(self.u16() % 0x8000),
            _ => (1 << 20) + u64::from(self.u16()) * 16,
        }
    }

    fn length(&mut self) -> u32 {
        match self.u8() % 8 {
            0 => self.u32(),
            1 => u32::from(self.u16()) * 16,
            2 => 16,
            3 => 512 * u32::from(self.u8() % 16),
            _ => self.u8().into(),
        }
    }
}

/// Lets `input` drive a machine: broken rings, well-formed requests, registers at the wrong time.
fn drive(machine: &mut Machine, queues: usize, input: &mut Input<'_>) {
    while !input.0.is_empty() {
        let action = input.u8();
        let queue = usize::from(input.u8()) % queues;
        match action % 10 {
            0 | 1 => {
                let (index, address, length) = (input.u8(), input.address(), input.length());
                let (flags, next) = (input.u8() & 7, input.u8());
                let table = machine.rings(queue);
                machine.descriptor(table, index.into(), address, length, flags.into(), next.into());
            }
            2 => machine.offer(queue, input.u8().into()),
            3 => machine.kick(queue),
            4 => {
                let address = (1 << 20) + u64::from(input.u16()) * 16;
                machine.write(address, &input.bytes::<48>());
            }
            5 => machine.set(u64::from(input.u8()) * 4, input.u32()),
            6 if input.u8() == 0 => machine.restart(),
            6 => machine.set_available(queue, input.u16()),
            _ => {
                let readable = (0..input.u8() % 3).map(|_| Buffer::read(input.address(), input.length()));
                let mut chain: Vec<Buffer> = readable.collect();
                chain.extend((0..input.u8() % 3).map(|_| Buffer::write(input.address(), input.length())));
                if chain.is_empty() {
                    continue;
                }
                if action & 0x80 == 0 {
                    machine.add(queue, &chain)
                } else {
                    machine.add_indirect(queue, &chain)
                };
                machine.kick(queue);
            }
        }
        machine.run();
    }
}

/// Whatever happened: the state can be saved, and after a reset the device is as good as new.
fn survives(machine: &mut Machine) {
    machine.run();
    let state = machine.transport.state();
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<DeviceState>(&json).unwrap(), state);
    machine.restart();
    assert!(!machine.failed());
}

pub fn registers(bytes: &[u8]) {
    let mut input = Input(bytes);
    let fresh = || Registers::new(DeviceId::Block, 1 << 32 | 1 << 5, &[128, 8]);
    let mut registers = fresh();
    let mut frozen = None;
    while !input.0.is_empty() {
        let (offset, value) =
            (u32::from(input.u8()) * 4, if input.u8() % 2 == 0 { input.u8().into() } else { input.u32() });
        registers.read(offset);
        match registers.write(offset, value) {
            Effect::Activate => frozen = Some(registers.placements()),
            Effect::Reset => frozen = None,
            _ => {}
        }
        if let Some(placements) = &frozen {
            assert_eq!(&registers.placements(), placements);
        }
    }
    fresh().restore(&registers.save()).unwrap();
}

/// Adds up what it is given; nothing may reach it that is not in RAM.
struct Recorder;

impl VirtioDevice for Recorder {
    fn id(&self) -> DeviceId {
        DeviceId::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[256, 2]
    }

    fn busy_queues(&self) -> &'static [u16] {
        &[]
    }

    fn config(&self) -> ConfigSpace {
        ConfigSpace::default()
    }

    fn serve(&mut self, index: usize, active: &mut Active) -> Result<(), DeviceError> {
        let Some(queue) = active.queue(index) else { return Ok(()) };
        queue.handle(|chain| {
            for piece in chain.readable.pieces().iter().chain(chain.writable.pieces()) {
                assert!(piece.len() as u64 <= RAM);
            }
            Ok(Served::Used(chain.writable.len() as u32))
        })
    }
}

pub fn recorder(bytes: &[u8]) {
    let mut machine = Machine::new(Box::new(Recorder));
    drive(&mut machine, 2, &mut Input(bytes));
    survives(&mut machine);
}

pub fn rng(bytes: &[u8]) {
    let mut machine = Machine::new(Box::new(Rng::new()));
    drive(&mut machine, 1, &mut Input(bytes));
    survives(&mut machine);
}

pub fn balloon(bytes: &[u8]) {
    let mut machine = Machine::new(Box::new(Balloon::new()));
    drive(&mut machine, 5, &mut Input(bytes));
    survives(&mut machine);
}

pub fn console(bytes: &[u8]) {
    let mut machine =
        Machine::new(Box::new(Console::new(Box::new(|text| assert!(text.len() <= CONSOLE_BYTES)))));
    drive(&mut machine, 2, &mut Input(bytes));
    survives(&mut machine);
}

/// A disk is the front of its file: what lies behind belongs to somebody else.
pub fn blk(bytes: &[u8]) {
    const SECTORS: u64 = 64;
    const GUARD: [u8; 512] = [0xee; 512];
    let file = tempfile::tempfile().unwrap();
    file.set_len(SECTORS * 512).unwrap();
    let mut input = Input(bytes);
    let read_only = input.u8() & 1 == 1;
    let disk = Disk::open(file.try_clone().unwrap(), read_only, "fuzz").unwrap();
    file.write_all_at(&GUARD, SECTORS * 512).unwrap();

    let mut machine = Machine::new(Box::new(Block::new(Slot::with(disk), Helpers::new(2))));
    while !input.0.is_empty() {
        disk_request(&mut machine, &mut input);
        let mut some = Input(&input.0[..input.0.len().min(32)]);
        input.0 = &input.0[some.0.len()..];
        drive(&mut machine, 1, &mut some);
    }
    survives(&mut machine);

    let mut guard = [0; 512];
    file.read_exact_at(&mut guard, SECTORS * 512).unwrap();
    assert_eq!((guard, length(&file)), (GUARD, (SECTORS + 1) * 512), "touched what is behind the disk");
    let mut content = vec![0; (SECTORS * 512) as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    assert!(!read_only || content.iter().all(|byte| *byte == 0), "changed a read-only disk");
}

/// A request that is nearly right, mostly around the end of the disk.
fn disk_request(machine: &mut Machine, input: &mut Input<'_>) {
    const HEADER: u64 = 1 << 20;
    const DATA: u64 = 2 << 20;
    const STATUS: u64 = 3 << 20;
    let near_the_end = |input: &mut Input<'_>| match input.u8() % 8 {
        0 => input.u64(),
        1 => input.u8().into(),
        _ => 60 + u64::from(input.u8() % 8),
    };
    let kind = [0, 1, 1, 4, 8, 11, 13, u32::from(input.u8())][usize::from(input.u8() % 8)];
    machine.write(HEADER, &[&kind.to_le_bytes()[..], &[0; 4], &near_the_end(input).to_le_bytes()].concat());
    let length = match kind {
        11 | 13 => {
            let (sector, count) = (near_the_end(input), u32::from(input.u8() % 8));
            let range =
                [&sector.to_le_bytes()[..], &count.to_le_bytes(), &u32::from(input.u8() & 1).to_le_bytes()];
            machine.write(DATA, &range.concat());
            16
        }
        _ if input.u8() > 0xe0 => input.length(),
        _ => 512 * u32::from(1 + input.u8() % 4),
    };
    let data = Buffer(DATA, length, matches!(kind, 0 | 8));
    let _ = machine.request(0, &[Buffer::read(HEADER, 16), data, Buffer::write(STATUS, 1)]);
}

fn length(file: &File) -> u64 {
    file.metadata().unwrap().len()
}

pub fn vsock(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let keepers: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
    let dialled = keepers.clone();
    let device = Vsock::new(vsock::Config {
        guest_cid: 3,
        listener: UnixListener::bind(&path).unwrap().into(),
        host_ports: vec![1025],
        dial: Box::new(move |port, fd| {
            assert_eq!(port, 1025);
            dialled.lock().unwrap().push(fd.into());
        }),
    });
    let mut machine = Machine::new(Box::new(device.unwrap()));
    let mut input = Input(bytes);
    let mut programs = Vec::new();
    while !input.0.is_empty() {
        match input.u8() % 8 {
            0 if programs.len() < MAX_HANDSHAKES => {
                let mut program = UnixStream::connect(&path).unwrap();
                program.set_nonblocking(true).unwrap();
                let line = format!("CONNECT {}\n", input.u8());
                let end = if input.u8() & 1 == 0 { line.len() } else { usize::from(input.u8()) % line.len() };
                let _ = program.write_all(&line.as_bytes()[..end]);
                programs.push(program);
            }
            1 => {
                let mut keepers = keepers.lock().unwrap();
                let everybody: Vec<_> = programs.iter_mut().chain(keepers.iter_mut()).collect();
                for program in everybody {
                    let _ = program.write(&input.bytes::<8>());
                }
            }
            2 if input.u8() & 3 == 0 => drop(programs.pop()),
            3 if input.u8() & 3 == 0 => drop(keepers.lock().unwrap().pop()),
            4 => {
                for _ in 0..input.u8() % 8 {
                    machine.add(0, &[Buffer::write(8 << 20, 4096)]);
                }
                machine.kick(0);
            }
            5 => drive_a_little(&mut machine, &mut input),
            _ => packet(&mut machine, &mut input),
        }
        machine.run();
        let _ = machine.used(0);
    }
    survives(&mut machine);
}

/// A packet whose fields are likely to mean something.
fn packet(machine: &mut Machine, input: &mut Input<'_>) {
    let mut bytes = [0; HEADER];
    bytes[30] = input.u8() % 9;
    bytes[32] = input.u8() & 3;
    let ports = [1025, (1 << 30) + u32::from(input.u8() % 4)];
    let header = Header {
        src_cid: 3,
        dst_cid: 2,
        src_port: u32::from(input.u8() % 4),
        dst_port: ports[usize::from(input.u8() & 1)],
        len: if input.u8() == 0 { input.u32() } else { input.u16().into() },
        kind: 1,
        buf_alloc: if input.u8() & 1 == 0 { 1 << 18 } else { input.u32() },
        fwd_cnt: if input.u8() & 1 == 0 { 0 } else { input.u32() },
        ..Header::decode(&bytes)
    };
    let payload = if header.op == Op::Data { input.length() } else { 0 };
    machine.write(4 << 20, &header.encode());
    let _ = machine.request(1, &[Buffer::read(4 << 20, HEADER as u32), Buffer::read(5 << 20, payload)]);
}

fn drive_a_little(machine: &mut Machine, input: &mut Input<'_>) {
    let mut some = Input(&input.0[..input.0.len().min(32)]);
    input.0 = &input.0[some.0.len()..];
    drive(machine, 3, &mut some);
}

pub fn vsock_lines(bytes: &[u8]) {
    match vsock::parse_handshake(bytes) {
        Line::Connect { port, length } => {
            let line = std::str::from_utf8(&bytes[..length]).unwrap();
            assert_eq!(line.strip_prefix("CONNECT ").unwrap().trim_end().parse(), Ok(port));
        }
        Line::Incomplete => assert!(b"CONNECT 4294967295\n".len() > bytes.len()),
        Line::Malformed => {}
    }
}

/// A snapshot is input like any other: what cannot be is refused, what can be runs no worse than a guest could make it.
pub fn device_state(bytes: &[u8]) {
    let mut input = Input(bytes);
    let machine = Machine::new(Box::new(Rng::new()));
    let mut json = serde_json::to_vec(&machine.transport.state()).unwrap();
    let state = if input.u8() & 1 == 0 {
        for _ in 0..input.u8() % 4 {
            let at = usize::from(input.u16()) % json.len();
            json[at] = input.u8();
        }
        let Ok(state) = serde_json::from_slice::<DeviceState>(&json) else { return };
        state
    } else {
        let mut state: DeviceState = serde_json::from_slice(&json).unwrap();
        for _ in 0..input.u8() % 4 {
            let queue = &mut state.queues[0];
            match input.u8() % 10 {
                0 => state.status = input.u8().into(),
                1 => state.driver_features = input.u64(),
                2 => queue.size = input.u16(),
                3 => queue.descriptors = input.address(),
                4 => queue.available = input.address(),
                5 => queue.used = input.address(),
                6 => (queue.next_available, queue.next_used) = (input.u16(), input.u16()),
                7 => queue.next_available = queue.next_used,
                8 => state.interrupt_reasons = input.u32(),
                _ => state.selectors = [input.u32(), input.u32(), input.u32()],
            }
        }
        state
    };
    let interrupt = Interrupt::new().unwrap();
    let (device, memory) = (Box::new(Rng::new()), machine.memory.clone());
    let events = machine.events.handle();
    if let Ok(restored) = MmioTransport::restore(device, memory, interrupt, &events, &state) {
        machine.run();
        restored.write(0x70, &[0; 4]);
        machine.run();
        assert_eq!(restored.state().status, 0);
    }
}
