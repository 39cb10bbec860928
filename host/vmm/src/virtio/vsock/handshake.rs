//! The line with which a program on the host asks for a guest port: `CONNECT <port>\n`, answered by `OK <port>\n`.
//!
//! The line is looked at without being taken from the socket until it is complete (`MSG_PEEK`): nothing is buffered here,
//! and what the client sends behind its line stays where the connection will read it.

/// Longest line with its end: the word, a space and ten digits.
pub const MAX_LINE: usize = 19;

/// What the beginning of a stream amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// More bytes have to come.
    Incomplete,
    /// A guest port is wanted; the line is so many bytes long.
    Connect {
        /// The guest's port.
        port: u32,
        /// Bytes of the line, its end included.
        length: usize,
    },
    /// Something else.
    Malformed,
}

/// Looks at the first bytes of a stream.
pub fn parse(bytes: &[u8]) -> Line {
    const WORD: &[u8] = b"CONNECT ";
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        let prefix = bytes.len().min(WORD.len());
        return if bytes.len() < MAX_LINE && bytes[..prefix] == WORD[..prefix] {
            Line::Incomplete
        } else {
            Line::Malformed
        };
    };
    let port = bytes[..end].strip_prefix(WORD).and_then(|digits| {
        // `parse` would accept a sign.
        let decimal = digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| decimal)?.parse().ok()
    });
    match port {
        Some(port) => Line::Connect { port, length: end + 1 },
        None => Line::Malformed,
    }
}

/// The answer to a line whose connection is open; `port` is the host's end.
pub fn accepted(port: u32) -> String {
    format!("OK {port}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_complete_line_names_its_port_and_leaves_the_rest() {
        assert_eq!(parse(b"CONNECT 1024\nhello"), Line::Connect { port: 1024, length: 13 });
        assert_eq!(parse(b"CONNECT 4294967295\n"), Line::Connect { port: u32::MAX, length: MAX_LINE });
    }

    #[test]
    fn half_a_line_waits() {
        for length in 0..12 {
            assert_eq!(parse(&b"CONNECT 1024"[..length]), Line::Incomplete);
        }
    }

    #[test]
    fn anything_else_is_malformed_as_early_as_it_shows() {
        for line in [
            &b"GET / HTTP/1.1"[..],
            b"connect 1\n",
            b"CONNECT\n",
            b"CONNECT \n",
            b"CONNECT +1\n",
            b"CONNECT 1 2\n",
            b"CONNECT 4294967296\n",
            b"CONNECT 00000000001",
            b"\n",
        ] {
            assert_eq!(parse(line), Line::Malformed, "{:?}", String::from_utf8_lossy(line));
        }
    }

    proptest! {
        #[test]
        fn no_stream_waits_beyond_the_longest_line(bytes in prop::collection::vec(any::<u8>(), MAX_LINE..64)) {
            prop_assert_ne!(parse(&bytes), Line::Incomplete);
        }
    }
}
