//! The headers of a request as HPACK writes them (RFC 7541, section 6), a byte at a time.
//!
//! ```text
//!          ┌──────────────── an index, or a change of the table's size ───────────────┐
//!          │                                                                          ▼
//! start ───┴─▶ name's index ─┬────────────────────────▶ value's length ─▶ value ─▶ start
//!                            └─▶ name's length ─▶ name ─▲
//! ```

/// Index of `:authority` in the table that every connection begins with.
const INDEX: usize = 1;
const NAME: &[u8] = b":authority";

/// Where in a request's headers we are.
#[derive(Debug, Default)]
pub struct Headers {
    place: Place,
    /// The header at hand is `:authority`, as far as it was read.
    authority: bool,
    /// Its value is a path, percent-encoded.
    encoded: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Start,
    /// The first byte of a string's length.
    Length(Number),
    /// Further bytes of a number that did not fit its first one (RFC 7541, section 5.1).
    More {
        number: Number,
        value: usize,
        shift: u32,
    },
    Name {
        left: usize,
    },
    Value {
        left: usize,
    },
    /// The headers are malformed.
    Lost,
}

/// What a number stands for.
#[derive(Clone, Copy, Debug)]
enum Number {
    Skipped,
    NameIndex,
    NameLength { huffman: bool },
    ValueLength { huffman: bool },
}

impl Headers {
    /// Reads the next byte and changes it if it offends.
    pub fn pass(&mut self, byte: &mut u8) {
        match self.place {
            Place::Start if *byte & 0x80 != 0 => self.number(Number::Skipped, *byte, 7),
            Place::Start if *byte & 0x40 != 0 => self.number(Number::NameIndex, *byte, 6),
            Place::Start if *byte & 0x20 != 0 => self.number(Number::Skipped, *byte, 5),
            Place::Start => self.number(Number::NameIndex, *byte, 4),
            Place::Length(number) => {
                let huffman = *byte & 0x80 != 0;
                let number = match number {
                    Number::NameLength { .. } => Number::NameLength { huffman },
                    _ => Number::ValueLength { huffman },
                };
                self.number(number, *byte, 7);
            }
            Place::More { number, value, shift } => {
                let value = value + (usize::from(*byte & 0x7f) << shift);
                match *byte & 0x80 != 0 {
                    false => self.read(number, value),
                    // No header is longer than four such bytes can say.
                    true if shift >= 21 => self.place = Place::Lost,
                    true => self.place = Place::More { number, value, shift: shift + 7 },
                }
            }
            Place::Name { left } => {
                self.authority &= NAME.get(NAME.len().wrapping_sub(left)) == Some(byte);
                self.place = match left {
                    1 => Place::Length(Number::ValueLength { huffman: false }),
                    _ => Place::Name { left: left - 1 },
                };
            }
            Place::Value { left } => {
                if self.authority {
                    self.encoded |= *byte == b'%';
                    // A colon or a bracket would begin a port or an address.
                    if self.encoded && matches!(*byte, b'%' | b':' | b'@' | b'[' | b']') {
                        *byte = b'-';
                    }
                }
                self.place = if left == 1 { Place::Start } else { Place::Value { left: left - 1 } };
            }
            Place::Lost => {}
        }
    }

    /// A number's first byte, of which the lower `bits` are the number's.
    fn number(&mut self, number: Number, byte: u8, bits: u32) {
        let largest = (1_usize << bits) - 1;
        let value = usize::from(byte) & largest;
        if value < largest {
            self.read(number, value);
        } else {
            self.place = Place::More { number, value, shift: 0 };
        }
    }

    /// A number has been read.
    fn read(&mut self, number: Number, value: usize) {
        self.place = match number {
            Number::Skipped => Place::Start,
            Number::NameIndex if value == 0 => Place::Length(Number::NameLength { huffman: false }),
            Number::NameIndex => {
                self.authority = value == INDEX;
                Place::Length(Number::ValueLength { huffman: false })
            }
            Number::NameLength { .. } if value == 0 => {
                self.authority = false;
                Place::Length(Number::ValueLength { huffman: false })
            }
            Number::NameLength { huffman } => {
                self.authority = !huffman && value == NAME.len();
                Place::Name { left: value }
            }
            Number::ValueLength { .. } if value == 0 => Place::Start,
            Number::ValueLength { huffman } => {
                self.authority &= !huffman;
                self.encoded = false;
                Place::Value { left: value }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(sent: &[u8]) -> Vec<u8> {
        let mut headers = Headers::default();
        let mut passing = sent.to_vec();
        passing.iter_mut().for_each(|byte| headers.pass(byte));
        passing
    }

    #[test]
    fn the_authority_is_known_by_name_and_by_index_and_nothing_else_changes() {
        assert_eq!(passed(b"\x41\x05a%2Fb\x40\x01x\x05a%2Fb"), b"\x41\x05a-2Fb\x40\x01x\x05a%2Fb");
        assert_eq!(passed(b"\x00\x0a:authority\x05a%2Fb"), b"\x00\x0a:authority\x05a-2Fb");
        assert_eq!(passed(b"\x00\x0a:authoritz\x05a%2Fb"), b"\x00\x0a:authoritz\x05a%2Fb");
        assert_eq!(passed(b"\x44\x05a%2Fb"), b"\x44\x05a%2Fb", "index 4 is :path");
    }

    #[test]
    fn what_begins_a_port_or_an_address_goes_only_with_a_path() {
        assert_eq!(passed(b"\x01\x09[::1]:443"), b"\x01\x09[::1]:443");
        assert_eq!(passed(b"\x01\x09a%2Fb:[@]"), b"\x01\x09a-2Fb----");
    }

    #[test]
    fn numbers_may_be_longer_than_a_byte() {
        // A value of 200 bytes before it, an indexed header above 127, and a change of the table's size.
        let before = [&b"\x40\x01x\x7f\x49"[..], &[b'%'; 200], b"\xff\x05", b"\x3f\xe1\x1f"].concat();
        let sent = [&before[..], b"\x41\x05a%2Fb"].concat();
        assert_eq!(passed(&sent), [&before[..], b"\x41\x05a-2Fb"].concat());
    }

    #[test]
    fn what_is_malformed_passes_as_it_came() {
        let sent = b"\xff\xff\xff\xff\xff\xff\x41\x05a%2Fb";
        assert_eq!(passed(sent), sent);
    }
}
