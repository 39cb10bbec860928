//! A folder's bytes: blocks of entries (number, place of the name, type) with the names behind them.
//!
//! All names, `.` and `..` among them, are sorted bytewise through the whole folder, because the kernel finds a name
//! by binary search. The last block ends with its last name; other blocks are filled with zeros.

use super::format::{BLOCK, DIRENT_LEN};

/// One name to store.
#[derive(Clone, Copy, Debug)]
pub struct Dirent<'a> {
    /// Up to 255 bytes.
    pub name: &'a [u8],
    /// The inode's number.
    pub nid: u64,
    /// The kind, as one of EROFS' numbers.
    pub file_type: u8,
}

/// Length of the folder's bytes. `names` are sorted and complete.
pub fn encoded_len<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut blocks = 0;
    let mut used = 0;
    for name in names {
        let need = (DIRENT_LEN + name.len()) as u64;
        if used + need > BLOCK {
            blocks += 1;
            used = 0;
        }
        used += need;
    }
    blocks * BLOCK + used
}

/// The folder's bytes, as long as [`encoded_len`] said. `entries` are sorted and complete.
pub fn encode(entries: &[Dirent]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fit = rest
            .iter()
            .take_while(|entry| {
                used += DIRENT_LEN + entry.name.len();
                used <= BLOCK as usize
            })
            .count();
        let (block, later) = rest.split_at(fit);
        encode_block(block, &mut out);
        if !later.is_empty() {
            out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
        }
        rest = later;
    }
    out
}

fn encode_block(entries: &[Dirent], out: &mut Vec<u8>) {
    let mut name_at = entries.len() * DIRENT_LEN;
    for entry in entries {
        out.extend(entry.nid.to_le_bytes());
        out.extend((name_at as u16).to_le_bytes());
        out.extend([entry.file_type, 0]);
        name_at += entry.name.len();
    }
    for entry in entries {
        out.extend(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_entries_then_names() {
        let entries =
            [Dirent { name: b".", nid: 36, file_type: 2 }, Dirent { name: b"ab", nid: 40, file_type: 1 }];
        let bytes = encode(&entries);
        assert_eq!(bytes[..12], [36, 0, 0, 0, 0, 0, 0, 0, 24, 0, 2, 0]);
        assert_eq!(bytes[12..24], [40, 0, 0, 0, 0, 0, 0, 0, 25, 0, 1, 0]);
        assert_eq!(&bytes[24..], b".ab");
    }

    #[test]
    fn the_length_is_known_before_the_bytes() {
        for count in [0, 1, 15, 16, 17, 100, 1000] {
            let names: Vec<Vec<u8>> =
                (0..count).map(|i| format!("{i:0width$}", width = 4 + i % 250).into_bytes()).collect();
            let entries: Vec<Dirent> =
                names.iter().map(|name| Dirent { name, nid: 1, file_type: 1 }).collect();
            assert_eq!(
                encode(&entries).len() as u64,
                encoded_len(names.iter().map(|name| name.as_slice())),
                "{count}"
            );
        }
    }
}
