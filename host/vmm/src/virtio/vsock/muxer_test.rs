use std::io;
use std::time::Duration;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::super::connection::{CLOSE_TIMEOUT, DIAL_TIMEOUT};
use super::super::fake::FakeStream;
use super::*;

const GUEST: u64 = 3;
const READY_PORT: u32 = 1025;

/// A muxer with a guest that has plenty of room.
struct Guest {
    muxer: Muxer<FakeStream>,
    accepted: Vec<FakeStream>,
    now: Instant,
}

fn guest() -> Guest {
    Guest { muxer: Muxer::new(GUEST, vec![READY_PORT]), accepted: Vec::new(), now: Instant::now() }
}

fn header(key: Key, op: Op) -> Header {
    Header {
        src_cid: GUEST,
        dst_cid: HOST_CID,
        src_port: key.guest_port,
        dst_port: key.host_port,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags: 0,
        buf_alloc: 1 << 20,
        fwd_cnt: 0,
    }
}

impl Guest {
    fn sends(&mut self, header: Header, payload: &[u8]) {
        let mut bytes = payload.to_vec();
        let mut payload = Buffers::default();
        payload.push(VolatileSlice::from(&mut bytes[..]));
        self.muxer.guest_packet(&header, &mut payload, |_| {
            let stream = FakeStream::default();
            self.accepted.push(stream.clone());
            Ok(stream)
        });
    }

    fn receives(&mut self) -> Option<Header> {
        let mut room = [0; 4096];
        let mut payload = Buffers::default();
        payload.push(VolatileSlice::from(&mut room[..]));
        self.muxer.next_packet(&mut payload, self.now)
    }

    fn dials(&mut self, guest_port: u32) -> (Key, FakeStream) {
        let stream = FakeStream::with_room(100);
        let key = self.muxer.dial(guest_port, self.now, |_| Ok(stream.clone())).unwrap();
        assert_eq!(
            self.receives().map(|header| (header.op, header.dst_port)),
            Some((Op::Request, guest_port))
        );
        (key, stream)
    }
}

fn key(guest_port: u32) -> Key {
    Key { host_port: READY_PORT, guest_port }
}

#[test]
fn the_guest_reaches_the_ports_it_may_dial_and_no_others() {
    let mut guest = guest();
    guest.sends(header(key(9), Op::Request), &[]);
    assert_eq!(guest.receives().unwrap().op, Op::Response);
    guest.sends(header(Key { host_port: 22, guest_port: 9 }, Op::Request), &[]);
    let refused = guest.receives().unwrap();
    assert_eq!((refused.op, refused.src_port, refused.dst_port), (Op::Reset, 22, 9));
    assert_eq!((guest.muxer.len(), guest.accepted.len()), (1, 1));
}

#[test]
fn packets_of_nobody_are_reset_and_resets_are_not_answered() {
    let mut guest = guest();
    for op in [Op::Data, Op::Response, Op::Shutdown, Op::CreditUpdate, Op::Unknown(99)] {
        guest.sends(header(key(9), op), &[]);
        assert_eq!(guest.receives().unwrap().op, Op::Reset);
    }
    guest.sends(header(key(9), Op::Reset), &[]);
    assert!(!guest.muxer.has_packets());
}

#[test]
fn forged_addresses_are_ignored() {
    let mut guest = guest();
    guest.sends(Header { src_cid: 4, ..header(key(9), Op::Request) }, &[]);
    guest.sends(Header { dst_cid: 1, ..header(key(9), Op::Request) }, &[]);
    assert!(guest.muxer.is_empty() && !guest.muxer.has_packets());
}

#[test]
fn other_socket_types_are_reset() {
    let mut guest = guest();
    guest.sends(Header { kind: 2, ..header(key(9), Op::Request) }, &[]);
    assert_eq!(guest.receives().unwrap().op, Op::Reset);
    assert!(guest.muxer.is_empty());
}

#[test]
fn a_header_that_promises_more_than_there_is_ends_its_connection_only() {
    let mut guest = guest();
    for port in [8, 9] {
        guest.sends(header(key(port), Op::Request), &[]);
        guest.receives().unwrap();
    }
    guest.sends(Header { len: u32::MAX, ..header(key(9), Op::Data) }, b"short");
    assert_eq!(guest.receives().map(|header| (header.op, header.dst_port)), Some((Op::Reset, 9)));
    assert_eq!(guest.muxer.len(), 1);
}

#[test]
fn connections_are_limited_and_their_buffers_with_them() {
    let mut guest = guest();
    for port in 0..MAX_CONNECTIONS as u32 + 10 {
        guest.sends(header(key(port), Op::Request), &[]);
    }
    assert_eq!(guest.muxer.len(), MAX_AFTER_GUEST_DIAL);
    // However much the guest dials, the host still reaches it.
    for _ in MAX_AFTER_GUEST_DIAL..MAX_CONNECTIONS {
        guest.muxer.dial(1, guest.now, |_| Ok(FakeStream::default())).unwrap();
    }
    assert!(matches!(guest.muxer.dial(1, guest.now, |_| Ok(FakeStream::default())), Err(DialError::Full)));
    // Programs that read nothing: everybody fills the window.
    let mut windows = 0;
    while let Some(packet) = guest.receives() {
        if packet.op == Op::Response {
            windows += packet.buf_alloc as usize;
            let bytes = vec![0; packet.buf_alloc as usize];
            guest.sends(Header { len: packet.buf_alloc, ..header(key(packet.dst_port), Op::Data) }, &bytes);
        }
    }
    assert_eq!(guest.muxer.backlog(), windows);
    assert!(windows <= Windows::TOTAL as usize);
}

#[test]
fn windows_come_back_when_connections_end() {
    let mut guest = guest();
    for round in 0..3 {
        for port in 0..MAX_AFTER_GUEST_DIAL as u32 {
            guest.sends(header(key(port), Op::Request), &[]);
        }
        assert_eq!(guest.muxer.len(), MAX_AFTER_GUEST_DIAL, "round {round}");
        for port in 0..MAX_AFTER_GUEST_DIAL as u32 {
            guest.sends(header(key(port), Op::Reset), &[]);
        }
        assert_eq!(guest.muxer.windows.left, Windows::TOTAL);
        assert!(!guest.muxer.has_packets());
    }
}

#[test]
fn resets_that_nobody_takes_are_limited() {
    let mut guest = guest();
    for port in 0..MAX_RESETS as u32 * 4 {
        guest.sends(header(key(port), Op::Data), &[]);
    }
    assert_eq!(guest.muxer.resets.len(), MAX_RESETS);
}

#[test]
fn a_guest_that_leaves_dials_half_open_is_given_up() {
    let mut guest = guest();
    let (_, stream) = guest.dials(1024);
    assert!(guest.muxer.has_deadlines());
    guest.muxer.expire(guest.now + DIAL_TIMEOUT - Duration::from_millis(1));
    assert_eq!(guest.muxer.len(), 1);
    guest.muxer.expire(guest.now + DIAL_TIMEOUT);
    assert!(guest.muxer.is_empty() && !guest.muxer.has_deadlines());
    assert_eq!(guest.receives().unwrap().op, Op::Reset);
    assert_eq!(std::rc::Rc::strong_count(&stream.0), 1, "the program's stream is still open");
}

#[test]
fn a_guest_that_never_confirms_an_end_is_given_up() {
    let mut guest = guest();
    let (key, stream) = guest.dials(1024);
    guest.sends(header(key, Op::Response), &[]);
    stream.0.borrow_mut().gone = true;
    guest.muxer.host_ready(key, Ready { readable: true, writable: true, hangup: true, closed: true });
    assert_eq!(guest.receives().unwrap().op, Op::Shutdown);
    guest.muxer.expire(guest.now + CLOSE_TIMEOUT);
    assert!(guest.muxer.is_empty());
}

#[test]
fn a_stream_that_cannot_be_made_refuses_the_guest() {
    let mut guest = guest();
    let failing = |_| Err(io::ErrorKind::OutOfMemory.into());
    guest.muxer.guest_packet(&header(key(9), Op::Request), &mut Buffers::default(), failing);
    assert_eq!(guest.receives().unwrap().op, Op::Reset);
    assert!(guest.muxer.is_empty());
}

#[test]
fn a_connection_that_cannot_send_does_not_hold_up_another() {
    let mut guest = guest();
    let (starved, starved_stream) = guest.dials(1);
    let (fed, fed_stream) = guest.dials(2);
    guest.sends(Header { buf_alloc: 0, ..header(starved, Op::Response) }, &[]);
    guest.sends(header(fed, Op::Response), &[]);
    for (key, stream) in [(starved, &starved_stream), (fed, &fed_stream)] {
        stream.0.borrow_mut().sending.extend([7; 10_000]);
        guest.muxer.host_ready(key, Ready { readable: true, ..Ready::default() });
    }
    let mut received = 0;
    while let Some(packet) = guest.receives() {
        if packet.op == Op::Data {
            assert_eq!(packet.dst_port, 2);
            received += packet.len;
        }
    }
    assert_eq!(received, 10_000);
}

#[test]
fn two_busy_connections_take_turns() {
    let mut guest = guest();
    let pair = [guest.dials(1), guest.dials(2)];
    for (key, stream) in &pair {
        guest.sends(header(*key, Op::Response), &[]);
        stream.0.borrow_mut().sending.extend(vec![7; 1 << 16]);
    }
    let ports: Vec<u32> =
        std::iter::from_fn(|| guest.receives()).map(|header| header.dst_port).take(8).collect();
    assert_eq!(ports, [1, 2, 1, 2, 1, 2, 1, 2]);
}

/// What a guest or a program does next.
#[derive(Clone, Debug)]
enum Step {
    Packet(Header, Vec<u8>),
    Dial(u32),
    Program { stream: usize, sends: usize, room: usize, leaves: bool },
    Take,
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || prop_oneof![0u32..4, Just(READY_PORT), Just(FIRST_HOST_PORT), Just(FIRST_HOST_PORT + 1)];
    let op = prop_oneof![
        Just(Op::Request),
        Just(Op::Response),
        Just(Op::Reset),
        Just(Op::Shutdown),
        Just(Op::Data),
        Just(Op::Data),
        Just(Op::CreditUpdate),
        Just(Op::CreditRequest),
        any::<u16>().prop_map(|_| Op::Unknown(1000))
    ];
    let packet = (
        port(),
        port(),
        op,
        0u32..5,
        any::<u32>(),
        any::<u32>(),
        prop::collection::vec(any::<u8>(), 0..600),
        any::<bool>(),
    )
        .prop_map(|(src_port, dst_port, op, flags, buf_alloc, fwd_cnt, payload, honest)| {
            let len = if honest { payload.len() as u32 } else { fwd_cnt };
            let header = Header {
                src_cid: GUEST,
                dst_cid: HOST_CID,
                src_port,
                dst_port,
                len,
                kind: 1,
                op,
                flags,
                buf_alloc,
                fwd_cnt,
            };
            Step::Packet(header, payload)
        });
    prop_oneof![
        6 => packet,
        1 => port().prop_map(Step::Dial),
        3 => (0usize..8, 0usize..3000, 0usize..600, prop::bool::weighted(0.1))
            .prop_map(|(stream, sends, room, leaves)| Step::Program { stream, sends, room, leaves }),
        4 => Just(Step::Take),
        1 => any::<u8>().prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in which order: bounds hold, credit is respected, and no packet leaves for nobody.
    #[test]
    fn random_guests_and_programs_stay_within_bounds(steps in prop::collection::vec(step(), 0..200)) {
        let mut guest = guest();
        let mut streams: Vec<(Key, FakeStream)> = Vec::new();
        let mut peers: HashMap<Key, (u32, u32, u32)> = HashMap::new();
        for step in steps {
            match step {
                Step::Packet(header, payload) => {
                    let before = guest.accepted.len();
                    let key = Key { host_port: header.dst_port, guest_port: header.src_port };
                    guest.sends(header, &payload);
                    if guest.accepted.len() > before {
                        streams.push((key, guest.accepted[before].clone()));
                        peers.insert(key, (header.buf_alloc, header.fwd_cnt, 0));
                    } else if let Some(peer) = peers.get_mut(&key) {
                        (peer.0, peer.1) = (header.buf_alloc, header.fwd_cnt);
                    }
                }
                Step::Dial(port) => {
                    let stream = FakeStream::with_room(20);
                    let key = guest.muxer.dial(port, guest.now, |_| Ok(stream.clone())).unwrap();
                    streams.push((key, stream));
                    peers.insert(key, (0, 0, 0));
                }
                Step::Program { stream, sends, room, leaves } => {
                    if let Some((key, stream)) = streams.get(stream) {
                        let mut program = stream.0.borrow_mut();
                        program.sending.extend(vec![1; sends]);
                        program.room += room;
                        program.gone |= leaves;
                        drop(program);
                        let ready = Ready { readable: true, writable: true, hangup: leaves, closed: leaves };
                        guest.muxer.host_ready(*key, ready);
                    }
                }
                Step::Take => {
                    if let Some(packet) = guest.receives() {
                        let key = Key { host_port: packet.src_port, guest_port: packet.dst_port };
                        prop_assert_eq!((packet.src_cid, packet.dst_cid, packet.kind), (HOST_CID, GUEST, TYPE_STREAM));
                        if packet.op == Op::Data {
                            let (buf_alloc, fwd_cnt, sent) = peers.get_mut(&key).unwrap();
                            *sent = sent.wrapping_add(packet.len);
                            prop_assert!(sent.wrapping_sub(*fwd_cnt) <= *buf_alloc, "credit exceeded");
                        }
                    }
                }
                Step::Wait(seconds) => {
                    guest.now += Duration::from_secs(seconds.into());
                    guest.muxer.expire(guest.now);
                }
            }
            prop_assert!(guest.muxer.len() <= MAX_CONNECTIONS);
            prop_assert!(guest.muxer.resets.len() <= MAX_RESETS);
            prop_assert!(guest.muxer.turns.len() <= guest.muxer.len());
            for connection in guest.muxer.connections.values_mut() {
                let window = connection.credit().window() as usize;
                prop_assert!(connection.backlog() <= window);
            }
        }
        // Everything that can be sent is sent in bounded time.
        let mut taken = 0;
        while guest.receives().is_some() {
            taken += 1;
            prop_assert!(taken < 10_000);
        }
    }
}
