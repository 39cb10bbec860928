use vm_memory::VolatileSlice;

use super::super::fake::FakeStream;
use super::super::packet::{HOST_CID, TYPE_STREAM};
use super::*;

const KEY: Key = Key { host_port: 1 << 30, guest_port: 1024 };
const WINDOW: u32 = 64;
const READABLE: Ready = Ready { readable: true, writable: false, hangup: false, closed: false };
const WRITABLE: Ready = Ready { readable: false, writable: true, hangup: false, closed: false };

/// A packet of the guest, which has plenty of room.
fn header(op: Op, flags: u32) -> Header {
    Header {
        src_cid: 3,
        dst_cid: HOST_CID,
        src_port: KEY.guest_port,
        dst_port: KEY.host_port,
        len: 0,
        kind: TYPE_STREAM,
        op,
        flags,
        buf_alloc: 1000,
        fwd_cnt: 0,
    }
}

fn packet(connection: &mut Connection<FakeStream>, op: Op, flags: u32) -> Verdict {
    connection.guest_packet(KEY, &header(op, flags), &mut Buffers::default())
}

fn data(connection: &mut Connection<FakeStream>, bytes: &[u8]) -> Verdict {
    let mut bytes = bytes.to_vec();
    let mut payload = Buffers::default();
    payload.push(VolatileSlice::from(&mut bytes[..]));
    connection.guest_packet(KEY, &header(Op::Data, 0), &mut payload)
}

/// The next packet and its payload.
fn next(connection: &mut Connection<FakeStream>) -> Option<(Op, u32, Vec<u8>)> {
    let mut room = [0; 4096];
    let mut payload = Buffers::default();
    payload.push(VolatileSlice::from(&mut room[..]));
    let outgoing = connection.next_packet(&mut payload, Instant::now())?;
    Some((outgoing.op, outgoing.flags, room[..outgoing.len as usize].to_vec()))
}

fn dialled(room: usize) -> (Connection<FakeStream>, FakeStream) {
    let stream = FakeStream::with_room(room);
    (Connection::dial(stream.clone(), WINDOW, Instant::now()), stream)
}

/// A connection that both sides have agreed on; the stream takes `room` bytes from the guest.
fn open(room: usize) -> (Connection<FakeStream>, FakeStream) {
    let stream = FakeStream::with_room(room);
    let mut connection = Connection::accept(stream.clone(), WINDOW, &header(Op::Request, 0));
    assert_eq!(next(&mut connection), Some((Op::Response, 0, Vec::new())));
    (connection, stream)
}

#[test]
fn a_dial_asks_the_guest_and_tells_the_program_when_it_agrees() {
    let (mut connection, stream) = dialled(100);
    assert_eq!(next(&mut connection), Some((Op::Request, 0, Vec::new())));
    assert_eq!(next(&mut connection), None);
    assert_eq!(packet(&mut connection, Op::Response, 0), Verdict::Keep);
    assert_eq!(stream.0.borrow().received, b"OK 1073741824\n");
    assert_eq!(connection.deadline(), None);
}

#[test]
fn a_guest_that_refuses_ends_the_dial() {
    let (mut connection, _) = dialled(100);
    assert_eq!(packet(&mut connection, Op::Reset, 0), Verdict::Close);
}

#[test]
fn a_guest_that_never_answers_a_dial_is_given_up() {
    let (connection, _) = dialled(100);
    let now = Instant::now();
    assert_eq!(connection.expired(now), Verdict::Keep);
    assert_eq!(connection.expired(now + DIAL_TIMEOUT), Verdict::Reset);
}

#[test]
fn a_guest_that_skips_the_answer_is_reset() {
    for op in [Op::Data, Op::Request, Op::Shutdown, Op::CreditUpdate, Op::Unknown(9)] {
        let (mut connection, _) = dialled(100);
        assert_eq!(packet(&mut connection, op, 0), Verdict::Reset, "{op:?}");
    }
}

#[test]
fn what_the_program_sent_behind_its_line_reaches_the_guest() {
    let (mut connection, stream) = dialled(100);
    stream.0.borrow_mut().sending.extend(b"hello");
    next(&mut connection);
    assert_eq!(packet(&mut connection, Op::Response, 0), Verdict::Keep);
    assert_eq!(next(&mut connection), Some((Op::Data, 0, b"hello".to_vec())));
}

#[test]
fn data_that_the_program_does_not_take_waits_and_follows_in_order() {
    let (mut connection, stream) = open(4);
    assert_eq!(data(&mut connection, b"0123456789"), Verdict::Keep);
    assert_eq!(data(&mut connection, b"abc"), Verdict::Keep);
    assert_eq!((connection.backlog(), stream.0.borrow().received.len()), (9, 4));
    for _ in 0..3 {
        stream.0.borrow_mut().room = 4;
        assert_eq!(connection.host_ready(WRITABLE), Verdict::Keep);
    }
    assert_eq!(stream.0.borrow().received, b"0123456789abc");
    assert_eq!(connection.backlog(), 0);
}

#[test]
fn a_guest_that_sends_more_than_the_window_is_reset() {
    let (mut connection, _) = open(0);
    assert_eq!(data(&mut connection, &[0; WINDOW as usize]), Verdict::Keep);
    assert_eq!(data(&mut connection, b"x"), Verdict::Reset);
    assert_eq!(connection.backlog(), WINDOW as usize);
}

#[test]
fn the_guest_hears_of_new_room_after_half_a_window() {
    let (mut connection, _) = open(1000);
    assert_eq!(data(&mut connection, &[0; 31]), Verdict::Keep);
    assert!(!connection.wants_turn());
    assert_eq!(data(&mut connection, &[0; 1]), Verdict::Keep);
    assert!(connection.wants_turn());
    assert_eq!(next(&mut connection), Some((Op::CreditUpdate, 0, Vec::new())));
}

#[test]
fn nothing_is_sent_beyond_the_guests_credit() {
    let (mut connection, stream) = open(0);
    stream.0.borrow_mut().sending.extend([7; 1500]);
    assert_eq!(connection.host_ready(READABLE), Verdict::Keep);
    assert_eq!(next(&mut connection).unwrap().2.len(), 1000);
    // Asked for more once, then quiet.
    assert_eq!(next(&mut connection), Some((Op::CreditRequest, 0, Vec::new())));
    assert!(!connection.wants_turn());
    let update = Header { fwd_cnt: 600, ..header(Op::CreditUpdate, 0) };
    assert_eq!(connection.guest_packet(KEY, &update, &mut Buffers::default()), Verdict::Keep);
    assert!(connection.wants_turn());
    assert_eq!(next(&mut connection).unwrap().2.len(), 500);
}

#[test]
fn a_credit_request_is_answered() {
    let (mut connection, _) = open(0);
    assert_eq!(packet(&mut connection, Op::CreditRequest, 0), Verdict::Keep);
    assert_eq!(next(&mut connection), Some((Op::CreditUpdate, 0, Vec::new())));
}

#[test]
fn each_direction_ends_on_its_own() {
    let (mut connection, stream) = open(100);
    assert_eq!(packet(&mut connection, Op::Shutdown, NO_SEND), Verdict::Keep);
    assert_eq!(stream.0.borrow().ended, [Shutdown::Write]);
    stream.0.borrow_mut().sending.extend(b"still");
    assert_eq!(connection.host_ready(READABLE), Verdict::Keep);
    assert_eq!(next(&mut connection), Some((Op::Data, 0, b"still".to_vec())));
    assert_eq!(packet(&mut connection, Op::Shutdown, NO_RECEIVE), Verdict::Reset);
}

#[test]
fn data_after_the_end_is_reset() {
    let (mut connection, _) = open(100);
    assert_eq!(packet(&mut connection, Op::Shutdown, NO_SEND), Verdict::Keep);
    assert_eq!(data(&mut connection, b"x"), Verdict::Reset);
}

#[test]
fn a_program_that_stops_sending_still_receives() {
    let (mut connection, stream) = open(100);
    stream.0.borrow_mut().done = true;
    let hangup = Ready { readable: true, hangup: true, ..Ready::default() };
    assert_eq!(connection.host_ready(hangup), Verdict::Keep);
    assert_eq!(next(&mut connection), Some((Op::Shutdown, NO_SEND, Vec::new())));
    assert_eq!(connection.deadline(), None);
    assert_eq!(data(&mut connection, b"answer"), Verdict::Keep);
    assert_eq!(stream.0.borrow().received, b"answer");
}

#[test]
fn the_last_bytes_of_a_program_come_before_its_end() {
    let (mut connection, stream) = open(100);
    stream.0.borrow_mut().sending.extend(b"bye");
    stream.0.borrow_mut().gone = true;
    let gone = Ready { readable: true, writable: true, hangup: true, closed: true };
    assert_eq!(connection.host_ready(gone), Verdict::Keep);
    assert_eq!(next(&mut connection), Some((Op::Data, 0, b"bye".to_vec())));
    assert_eq!(next(&mut connection), Some((Op::Shutdown, NO_SEND | NO_RECEIVE, Vec::new())));
    // Half-open: the guest has to confirm in time.
    let deadline = connection.deadline().unwrap();
    assert_eq!(connection.expired(deadline), Verdict::Reset);
    assert_eq!(packet(&mut connection, Op::Reset, 0), Verdict::Close);
}

#[test]
fn data_for_a_program_that_is_gone_is_dropped_without_stalling_the_guest() {
    let (mut connection, stream) = open(0);
    stream.0.borrow_mut().gone = true;
    for _ in 0..10 {
        assert_eq!(data(&mut connection, &[0; WINDOW as usize]), Verdict::Keep);
    }
    assert_eq!(connection.backlog(), 0);
    assert_eq!(next(&mut connection), Some((Op::Shutdown, NO_RECEIVE, Vec::new())));
}

#[test]
fn what_the_guest_sent_before_it_closed_reaches_a_slow_program() {
    let (mut connection, stream) = open(0);
    assert_eq!(data(&mut connection, b"last words"), Verdict::Keep);
    assert_eq!(packet(&mut connection, Op::Shutdown, NO_SEND | NO_RECEIVE), Verdict::Drain);
    assert!(!connection.wants_turn());
    assert_eq!(packet(&mut connection, Op::Reset, 0), Verdict::Keep);
    stream.0.borrow_mut().room = 4;
    assert_eq!(connection.host_ready(WRITABLE), Verdict::Keep);
    stream.0.borrow_mut().room = 100;
    assert_eq!(connection.host_ready(WRITABLE), Verdict::Close);
    assert_eq!(stream.0.borrow().received, b"last words");
}

#[test]
fn a_guest_that_cuts_off_loses_what_it_sent() {
    let (mut connection, _) = open(0);
    assert_eq!(data(&mut connection, b"never read"), Verdict::Keep);
    assert_eq!(packet(&mut connection, Op::Reset, 0), Verdict::Close);
}

#[test]
fn packets_that_make_no_sense_on_an_open_connection_reset_it() {
    for op in [Op::Request, Op::Response, Op::Unknown(0), Op::Unknown(77)] {
        let (mut connection, _) = open(0);
        assert_eq!(packet(&mut connection, op, 0), Verdict::Reset, "{op:?}");
    }
}
