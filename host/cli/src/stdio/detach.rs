//! The keys that leave a container running: `ctrl-p,ctrl-q` unless told otherwise.
//!
//! A prefix of the sequence is held back until it is clear whether the rest follows; if not, it goes to the container.

use std::str::FromStr;

/// A sequence of bytes to look for in typed input, and how far it has been seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    seen: usize,
}

/// A text that is no sequence of keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} are no detach keys: write letters or ctrl-<key> joined by commas, such as ctrl-p,ctrl-q")]
pub struct NotKeys(String);

impl Default for DetachKeys {
    fn default() -> Self {
        Self { sequence: vec![0x10, 0x11], seen: 0 }
    }
}

impl FromStr for DetachKeys {
    type Err = NotKeys;

    /// The empty text means that no keys detach.
    fn from_str(text: &str) -> Result<Self, NotKeys> {
        let keys = text.split(',').filter(|key| !key.is_empty());
        let sequence = keys
            .map(|key| key_byte(key).ok_or_else(|| NotKeys(text.to_owned())))
            .collect::<Result<_, _>>()?;
        Ok(Self { sequence, seen: 0 })
    }
}

fn key_byte(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(letter.to_ascii_uppercase() - b'@'),
        [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

impl DetachKeys {
    /// Takes typed bytes; what may go on is appended to `out`. Returns whether the sequence is complete, after which the
    /// rest of `typed` is dropped.
    pub fn filter(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        if self.sequence.is_empty() {
            out.extend_from_slice(typed);
            return false;
        }
        for &byte in typed {
            while self.seen > 0 && byte != self.sequence[self.seen] {
                self.release_one(out);
            }
            if byte != self.sequence[self.seen] {
                out.push(byte);
                continue;
            }
            self.seen += 1;
            if self.seen == self.sequence.len() {
                self.seen = 0;
                return true;
            }
        }
        false
    }

    /// The held prefix does not go on with the next byte: its first byte is free, and what remains may begin again.
    fn release_one(&mut self, out: &mut Vec<u8>) {
        let held = self.sequence[..self.seen].to_vec();
        let restart =
            (1..held.len()).find(|&start| self.sequence.starts_with(&held[start..])).unwrap_or(held.len());
        out.extend_from_slice(&held[..restart]);
        self.seen = held.len() - restart;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds each text as one read and returns what went on, or `None` after which one detached.
    fn typed(keys: &str, reads: &[&[u8]]) -> (Vec<u8>, Option<usize>) {
        let mut keys: DetachKeys = keys.parse().unwrap();
        let mut out = Vec::new();
        let detached = reads.iter().position(|read| keys.filter(read, &mut out));
        (out, detached)
    }

    #[test]
    fn the_sequence_detaches_even_over_several_reads() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\x10\x11rest"]), (b"ls".to_vec(), Some(0)));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\x10", b"\x11"]), (b"ls".to_vec(), Some(1)));
        assert_eq!(DetachKeys::default(), "ctrl-p,ctrl-q".parse().unwrap());
    }

    #[test]
    fn a_prefix_that_does_not_go_on_reaches_the_container() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10", b"x"]), (b"\x10x".to_vec(), None));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10\x10\x10\x11"]), (b"\x10\x10".to_vec(), Some(0)));
        assert_eq!(typed("a,b,a,c", &[b"ababac"]), (b"ab".to_vec(), Some(0)));
        assert_eq!(typed("a,b,a,c", &[b"abaabx"]), (b"abaabx".to_vec(), None));
    }

    #[test]
    fn no_keys_never_detach() {
        assert_eq!(typed("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), None));
    }

    #[test]
    fn keys_are_letters_or_control_keys() {
        assert_eq!("ctrl-@,ctrl-A,z".parse::<DetachKeys>().unwrap().sequence, [0, 1, b'z']);
        for text in ["ctrl-", "ctrl-1", "alt-x", "ab", "ctrl-pq"] {
            assert_eq!(text.parse::<DetachKeys>(), Err(NotKeys(text.into())));
        }
    }
}
