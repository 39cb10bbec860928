//! The frames that a client sends (RFC 9113, section 4.1), as they pass in pieces of any size.
//!
//! ```text
//! preface ─▶ head ─▶ payload ─▶ head ─▶ payload ─▶ …
//! ```

use super::headers::Headers;

/// `PRI * HTTP/2.0` and the lines after it.
const PREFACE: usize = 24;
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Where in a connection's frames we are.
#[derive(Debug)]
pub struct Frames {
    place: Place,
    headers: Headers,
}

#[derive(Debug)]
enum Place {
    Head {
        read: usize,
        head: [u8; HEAD],
    },
    /// The preface, or a payload without headers.
    Other {
        left: usize,
    },
    /// A payload of headers. The `skipped` bytes before them say how it is padded and what it depends on.
    Headers {
        skipped: usize,
        left: usize,
    },
}

impl Frames {
    /// At the start of a connection.
    pub fn new() -> Self {
        Self { place: Place::Other { left: PREFACE }, headers: Headers::default() }
    }

    /// Reads the next bytes of the connection and changes what offends in them.
    pub fn pass(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.place {
                Place::Other { left } => {
                    let passed = (*left).min(bytes.len() - at);
                    at += passed;
                    *left -= passed;
                    if *left == 0 {
                        self.place = Place::BEFORE_HEAD;
                    }
                }
                Place::Head { read, head } => {
                    head[*read] = bytes[at];
                    at += 1;
                    *read += 1;
                    if *read == HEAD {
                        self.place = payload(head, &mut self.headers);
                    }
                }
                Place::Headers { skipped, left } => {
                    match skipped.checked_sub(1) {
                        Some(fewer) => *skipped = fewer,
                        None => self.headers.pass(&mut bytes[at]),
                    }
                    at += 1;
                    *left -= 1;
                    if *left == 0 {
                        self.place = Place::BEFORE_HEAD;
                    }
                }
            }
        }
    }
}

impl Place {
    const BEFORE_HEAD: Self = Self::Head { read: 0, head: [0; HEAD] };
}

/// What comes after a head. The padding of headers is zeros at their end, which mean nothing to [`Headers`].
fn payload(head: &[u8; HEAD], headers: &mut Headers) -> Place {
    let left = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let flag = |flag, bytes| if head[4] & flag != 0 { bytes } else { 0 };
    match head[3] {
        HEADERS if left > 0 => {
            *headers = Headers::default();
            Place::Headers { skipped: flag(PADDED, 1) + flag(PRIORITY, 5), left }
        }
        CONTINUATION if left > 0 => Place::Headers { skipped: 0, left },
        _ => Place::Other { left },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// As gRPC's C core writes it: a literal that is to be indexed, with a name of ten and a value of twelve bytes.
    fn authority(value: &[u8; 12]) -> Vec<u8> {
        [b"@\x05:path\x10/types.API/State@\x0a:authority\x0c", &value[..], b"\x83\x86"].concat()
    }

    /// A call of one frame of headers, with a payload that looks the same.
    fn call(value: &[u8; 12]) -> Vec<u8> {
        let looks_the_same = authority(b"tmp%2Fd.sock");
        [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(4, 0, &[]),
            &frame(HEADERS, 4, &authority(value)),
            &frame(0, 1, &looks_the_same),
            &frame(HEADERS, 4, &[0x82, 0xbe]),
        ]
        .concat()
    }

    #[test]
    fn a_path_in_the_authority_offends_nobody_however_it_arrives() {
        let (sent, expected) = (call(b"tmp%2Fd.sock"), call(b"tmp-2Fd.sock"));
        for size in 1..=sent.len() {
            let mut passing = sent.clone();
            let mut frames = Frames::new();
            passing.chunks_mut(size).for_each(|piece| frames.pass(piece));
            assert_eq!(passing, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_authority_that_does_not_offend_stays() {
        let sent = call(b"localhost:80");
        let mut passing = sent.clone();
        Frames::new().pass(&mut passing);
        assert_eq!(passing, sent);
    }

    #[test]
    fn headers_may_be_padded_depend_on_another_stream_and_go_on_in_another_frame() {
        let call = |value| {
            let headers = authority(value);
            let (one, other) = headers.split_at(45);
            let padded = [&[3, 0, 0, 0, 0, 16], &headers[..], &[0; 3]].concat();
            let begun = [&[0, 0, 0, 0, 16], one].concat();
            let frames = [
                vec![b' '; PREFACE],
                frame(HEADERS, PADDED | PRIORITY, &padded),
                frame(HEADERS, PRIORITY, &begun),
                frame(CONTINUATION, 4, other),
            ];
            frames.concat()
        };
        let mut passing = call(b"tmp%2Fd.sock");
        Frames::new().pass(&mut passing);
        assert_eq!(passing, call(b"tmp-2Fd.sock"));
    }

    #[test]
    fn noise_passes_without_a_panic_and_keeps_its_length() {
        let mut state = 1_u64;
        for _ in 0..2000 {
            let noise: Vec<u8> = (0..300)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            let mut passing = [vec![0; PREFACE], frame(HEADERS, noise[0], &noise), noise.clone()].concat();
            Frames::new().pass(&mut passing);
            assert_eq!(passing.len(), PREFACE + HEAD + 600);
        }
    }
}
