//! The device with its queues and real sockets; the test is the guest's driver.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::virtio::testing::{Buffer, Machine};

const GUEST: u64 = 3;

type Dials = Arc<Mutex<Vec<(u32, UnixStream)>>>;

struct Guest {
    machine: Machine,
    path: PathBuf,
    dials: Dials,
    transmit: u64,
    receive: Vec<u64>,
    _folder: tempfile::TempDir,
}

const RECEIVE_BUFFER: u32 = 4096;

fn guest() -> Guest {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let listener = UnixListener::bind(&path).unwrap();
    let dials = Dials::default();
    let heard = dials.clone();
    let device = Vsock::new(Config {
        guest_cid: GUEST,
        listener: listener.into(),
        host_ports: vec![1025],
        dial: Box::new(move |port, fd| heard.lock().unwrap().push((port, fd.into()))),
    });
    let mut machine = Machine::new(Box::new(device.unwrap()));
    let transmit = machine.buffer(64 * 1024 + 64);
    let mut guest = Guest { machine, path, dials, transmit, receive: Vec::new(), _folder: folder };
    guest.offer(32);
    guest
}

impl Guest {
    /// Offers buffers for packets.
    fn offer(&mut self, count: usize) {
        for _ in 0..count {
            let buffer = self.machine.buffer(RECEIVE_BUFFER.into());
            self.machine.add(RECEIVE, &[Buffer::write(buffer, RECEIVE_BUFFER)]);
            self.receive.push(buffer);
        }
        self.machine.kick(RECEIVE);
        self.machine.run();
    }

    fn connect(&mut self, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        self.machine.run();
        stream
    }

    fn sends(&mut self, header: Header, payload: &[u8]) {
        let header = Header { len: payload.len() as u32, ..header };
        self.machine.write(self.transmit, &header.encode());
        self.machine.write(self.transmit + HEADER as u64, payload);
        let parts = [
            Buffer::read(self.transmit, HEADER as u32),
            Buffer::read(self.transmit + HEADER as u64, payload.len() as u32),
        ];
        assert_eq!(self.machine.request(TRANSMIT, &parts), Some(0));
    }

    /// Packets that have come, with their payload.
    fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.machine.run();
        let used = self.machine.used(RECEIVE);
        used.into_iter()
            .map(|(_, length)| {
                let buffer = self.receive.remove(0);
                let bytes = self.machine.read(buffer, length as usize);
                let header = Header::decode(bytes[..HEADER].try_into().unwrap());
                assert_eq!(header.len as usize, bytes.len() - HEADER);
                (header, bytes[HEADER..].to_vec())
            })
            .collect()
    }

    fn receives(&mut self, op: Op) -> (Header, Vec<u8>) {
        let packets = self.received();
        packets.into_iter().find(|(header, _)| header.op == op).unwrap_or_else(|| panic!("no {op:?}"))
    }
}

fn answer(to: &Header, op: Op) -> Header {
    Header {
        src_cid: GUEST,
        dst_cid: HOST_CID,
        src_port: to.dst_port,
        dst_port: to.src_port,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    }
}

/// Somebody in the guest dials the host.
fn dial(port: u32) -> Header {
    let host = Header { src_port: port, dst_port: 5000, ..Header::decode(&[0; HEADER]) };
    answer(&host, Op::Request)
}

fn text(stream: &mut UnixStream) -> String {
    let mut text = [0; 64];
    match stream.read(&mut text) {
        Ok(count) => String::from_utf8_lossy(&text[..count]).into_owned(),
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn a_program_reaches_a_guest_port_and_talks() {
    let mut guest = guest();
    let mut program = guest.connect("CONNECT 1024\nhello");
    let (request, _) = guest.receives(Op::Request);
    assert_eq!((request.dst_port, request.dst_cid), (1024, GUEST));
    guest.sends(answer(&request, Op::Response), &[]);
    assert_eq!(text(&mut program), format!("OK {}\n", request.src_port));
    assert_eq!(guest.receives(Op::Data).1, b"hello");
    guest.sends(answer(&request, Op::Data), b"good day");
    assert_eq!(text(&mut program), "good day");
    drop(program);
    assert_eq!(guest.receives(Op::Shutdown).0.flags, NO_SEND | NO_RECEIVE);
}

#[test]
fn a_line_in_pieces_is_put_together() {
    let mut guest = guest();
    let mut program = guest.connect("CONN");
    for piece in ["ECT ", "10", "24", "\n"] {
        assert!(guest.received().is_empty());
        program.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(guest.receives(Op::Request).0.dst_port, 1024);
}

#[test]
fn a_program_that_says_something_else_is_hung_up_on() {
    let mut guest = guest();
    for line in ["GET / HTTP/1.1\r\n", "CONNECT 1024 but a lot more than a port"] {
        let mut program = guest.connect(line);
        // Bytes that were never read turn the end of the stream into a reset.
        assert!(["", "connection reset"].contains(&text(&mut program).as_str()));
    }
    assert!(guest.received().is_empty());
}

#[test]
fn a_port_where_the_guest_does_not_listen_ends_the_stream() {
    let mut guest = guest();
    let mut program = guest.connect("CONNECT 7\n");
    let (request, _) = guest.receives(Op::Request);
    guest.sends(answer(&request, Op::Reset), &[]);
    assert_eq!(text(&mut program), "");
}

#[test]
fn more_programs_than_may_wait_are_turned_away() {
    let mut guest = guest();
    let mut programs: Vec<_> = (0..MAX_HANDSHAKES + 5).map(|_| guest.connect("CONN")).collect();
    guest.machine.run();
    let turned_away = programs.iter_mut().filter_map(|program| {
        let answer = text(program);
        (answer != io::ErrorKind::WouldBlock.to_string()).then_some(())
    });
    assert_eq!(turned_away.count(), 5);
}

#[test]
fn the_guest_dials_the_host() {
    let mut guest = guest();
    let request = dial(1025);
    guest.sends(request, &[]);
    assert_eq!(guest.receives(Op::Response).0.src_port, 1025);
    guest.sends(Header { op: Op::Data, ..request }, b"ready");
    let (port, mut keeper) = guest.dials.lock().unwrap().pop().unwrap();
    assert_eq!((port, text(&mut keeper).as_str()), (1025, "ready"));
    keeper.write_all(b"welcome").unwrap();
    assert_eq!(guest.receives(Op::Data).1, b"welcome");
}

#[test]
fn a_lot_of_data_arrives_complete_when_the_program_reads_late() {
    let mut guest = guest();
    let request = dial(1025);
    guest.sends(request, &[]);
    let (_, mut keeper) = guest.dials.lock().unwrap().pop().unwrap();
    keeper.set_nonblocking(true).unwrap();
    let mut window = guest.receives(Op::Response).0.buf_alloc;
    let (mut sent, mut received) = (Vec::<u8>::new(), Vec::<u8>::new());
    while sent.len() < 4 << 20 {
        let piece: Vec<u8> = (0..8192).map(|index| (sent.len() / 8192 + index) as u8).collect();
        if (window as usize) < piece.len() {
            // Out of credit: the program reads, and the device tells of the room.
            let mut bytes = [0; 65536];
            while let Ok(count) = keeper.read(&mut bytes) {
                received.extend(&bytes[..count]);
            }
            guest.offer(1);
            let (update, _) = guest.receives(Op::CreditUpdate);
            window = update.buf_alloc - (sent.len() as u32 - update.fwd_cnt);
            continue;
        }
        guest.sends(Header { op: Op::Data, ..request }, &piece);
        sent.extend(&piece);
        window -= piece.len() as u32;
    }
    guest.sends(Header { op: Op::Shutdown, flags: NO_SEND | NO_RECEIVE, ..request }, &[]);
    let mut bytes = [0; 65536];
    loop {
        match keeper.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => received.extend(&bytes[..count]),
            Err(_) => guest.machine.run(),
        }
    }
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[test]
fn packets_wait_until_the_guest_has_room() {
    let mut guest = guest();
    let mut programs: Vec<_> = (0..40).map(|_| guest.connect("CONNECT 1024\n")).collect();
    assert_eq!(guest.received().len(), 32);
    guest.offer(32);
    assert_eq!(guest.received().len(), 8);
    assert!(text(&mut programs[0]).contains("would block"));
}

#[test]
fn a_receive_buffer_without_room_for_a_header_stops_the_device() {
    let mut guest = guest();
    guest.machine.restart();
    let tiny = guest.machine.buffer(16);
    guest.machine.add(RECEIVE, &[Buffer::write(tiny, 16)]);
    guest.connect("CONNECT 1024\n");
    assert!(guest.machine.failed());
    guest.machine.restart();
    assert!(!guest.machine.failed());
}

#[test]
fn half_a_packet_is_ignored() {
    let mut guest = guest();
    let transmit = guest.transmit;
    assert_eq!(guest.machine.request(TRANSMIT, &[Buffer::read(transmit, 43)]), Some(0));
    assert_eq!(guest.machine.request(TRANSMIT, &[Buffer::write(transmit, 4096)]), Some(0));
    assert!(!guest.machine.failed());
}

#[test]
fn a_reset_of_the_device_hangs_up_on_everybody() {
    let mut guest = guest();
    let mut program = guest.connect("CONNECT 1024\n");
    guest.machine.restart();
    assert_eq!(text(&mut program), "");
    guest.receive.clear();
    guest.offer(4);
    guest.connect("CONNECT 5\n");
    assert_eq!(guest.receives(Op::Request).0.dst_port, 5);
}

#[test]
fn a_restored_guest_hears_that_its_connections_are_gone() {
    let mut guest = guest();
    let buffer = guest.machine.buffer(8);
    guest.machine.write(buffer, &[0xff; 8]);
    guest.machine.add(EVENTS, &[Buffer::write(buffer, 8)]);
    guest.machine.kick(EVENTS);
    guest.machine.run();
    assert!(guest.machine.used(EVENTS).is_empty());
    let state = guest.machine.transport.state();

    let listener = UnixListener::bind(guest.path.with_extension("restored")).unwrap();
    let device = Vsock::new(Config {
        guest_cid: GUEST,
        listener: listener.into(),
        host_ports: Vec::new(),
        dial: Box::new(|_, _| {}),
    });
    let machine = &guest.machine;
    let (memory, interrupt) = (machine.memory.clone(), crate::virtio::Interrupt::new().unwrap());
    let events = machine.events.handle();
    let restored =
        crate::virtio::MmioTransport::restore(Box::new(device.unwrap()), memory, interrupt, &events, &state);
    guest.machine.run();
    assert_eq!(guest.machine.used(EVENTS), [(0, 4)]);
    assert_eq!(guest.machine.read(buffer, 8), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    drop(restored);
}

#[test]
fn tokens_keep_connections_and_everything_else_apart() {
    let key = Key { host_port: 1 << 30, guest_port: u32::MAX };
    assert!(matches!(Token::decode(Token::Connection(key).encode()), Token::Connection(same) if same == key));
    assert!(matches!(Token::decode(Token::Listener.encode()), Token::Listener));
    assert!(matches!(Token::decode(Token::Timer.encode()), Token::Timer));
    assert!(matches!(Token::decode(Token::Handshake(1).encode()), Token::Handshake(1)));
}
