//! A second opinion on EROFS images: a reader written from the format's description, sharing nothing with the writer.
//!
//! It asserts what the kernel demands (checksum, order of names, inline bytes inside one block) while it reads.

use std::collections::BTreeMap;
use std::path::Path;

const BLOCK: usize = 4096;

/// One file as read back. Folders have the names of their entries as data, `.` and `..` apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub nid: u64,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub mtime: (i64, u32),
    pub device: u32,
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

struct Reader {
    image: Vec<u8>,
    time: (i64, u32),
}

/// All files of an image by path; the root is "".
pub fn read(path: &Path) -> BTreeMap<String, Node> {
    let image = std::fs::read(path).unwrap();
    assert_eq!(image.len() % BLOCK, 0, "whole blocks");
    let superblock = &image[1024..1152];
    assert_eq!(u32_at(superblock, 0), 0xe0f5_e1e2, "magic");
    assert_eq!(u32_at(superblock, 4), checksum(&image), "checksum");
    assert_eq!(superblock[12], 12, "block size");
    assert_eq!(u32_at(superblock, 36) as usize, image.len() / BLOCK, "block count");
    assert_eq!(u32_at(superblock, 80), 0, "no feature that a kernel could lack");
    let root = u64::from(u16_at(superblock, 14));
    let time = (u64_at(superblock, 24) as i64, u32_at(superblock, 32));
    let inodes = u64_at(superblock, 16);
    let reader = Reader { image, time };
    let mut all = BTreeMap::new();
    reader.folder(root, root, "", &mut all);
    let distinct: std::collections::BTreeSet<u64> = all.values().map(|node| node.nid).collect();
    assert_eq!(distinct.len() as u64, inodes, "inode count");
    all
}

impl Reader {
    fn folder(&self, nid: u64, parent: u64, path: &str, all: &mut BTreeMap<String, Node>) {
        let mut node = self.inode(nid);
        let entries = parse_entries(&node.data);
        assert!(entries.windows(2).all(|pair| pair[0].0 < pair[1].0), "names of {path:?} are sorted");
        let find = |name: &[u8]| entries.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
        assert_eq!((find(b"."), find(b"..")), (Some(nid), Some(parent)), "dots of {path:?}");
        let mut subfolders = 0;
        node.data.clear();
        for (name, child, file_type) in &entries {
            if name == b"." || name == b".." {
                continue;
            }
            node.data.extend(name.iter().chain(b"\n"));
            let child_path =
                format!("{path}{}{}", if path.is_empty() { "" } else { "/" }, String::from_utf8_lossy(name));
            let read = self.inode(*child);
            let expected_type = match read.mode & 0o170_000 {
                0o100_000 => 1,
                0o040_000 => 2,
                0o020_000 => 3,
                0o060_000 => 4,
                0o010_000 => 5,
                0o140_000 => 6,
                0o120_000 => 7,
                other => panic!("mode {other:o}"),
            };
            assert_eq!(*file_type, expected_type, "type of {child_path:?}");
            if expected_type == 2 {
                subfolders += 1;
                self.folder(*child, nid, &child_path, all);
            } else {
                all.insert(child_path, read);
            }
        }
        assert_eq!(node.links, 2 + subfolders, "links of {path:?}");
        all.insert(path.to_owned(), node);
    }

    fn inode(&self, nid: u64) -> Node {
        let at = nid as usize * 32;
        let raw = &self.image[at..];
        let format = u16_at(raw, 0);
        let extended = format & 1 == 1;
        let xattr_count = usize::from(u16_at(raw, 2));
        let head = if extended { 64 } else { 32 };
        let xattrs_len = if xattr_count == 0 { 0 } else { 12 + 4 * (xattr_count - 1) };
        let (size, uid, gid, links, mtime) = if extended {
            let mtime = (u64_at(raw, 32) as i64, u32_at(raw, 40));
            (u64_at(raw, 8), u32_at(raw, 24), u32_at(raw, 28), u32_at(raw, 44), mtime)
        } else {
            let short = |at| u32::from(u16_at(raw, at));
            (u32_at(raw, 8).into(), short(24), short(26), short(6), self.time)
        };
        let size = size as usize;
        let union = u32_at(raw, 16);
        let mode = u16_at(raw, 4);
        let is_device = matches!(mode & 0o170_000, 0o020_000 | 0o060_000);
        let first = union as usize * BLOCK;
        let data = match format >> 1 {
            0 => self.image[if size == 0 { 0..0 } else { first..first + size }].to_vec(),
            2 => {
                let inline = at + head + xattrs_len;
                let tail = size % BLOCK;
                assert_eq!(inline / BLOCK, (inline + tail - 1) / BLOCK, "inline bytes cross a block");
                let mut data = self.image[first..first + size - tail].to_vec();
                data.extend(&self.image[inline..inline + tail]);
                data
            }
            other => panic!("layout {other}"),
        };
        let xattrs = parse_xattrs(&self.image[at + head..at + head + xattrs_len]);
        let device = if is_device { union } else { 0 };
        Node { nid, mode, uid, gid, links, mtime, device, data, xattrs }
    }
}

fn parse_entries(data: &[u8]) -> Vec<(Vec<u8>, u64, u8)> {
    let mut all = Vec::new();
    for block in data.chunks(BLOCK) {
        let count = usize::from(u16_at(block, 8)) / 12;
        for i in 0..count {
            let entry = &block[i * 12..];
            let start = usize::from(u16_at(entry, 8));
            let name = if i + 1 < count {
                &block[start..usize::from(u16_at(&block[(i + 1) * 12..], 8))]
            } else {
                block[start..].split(|byte| *byte == 0).next().unwrap()
            };
            all.push((name.to_vec(), u64_at(entry, 0), entry[10]));
        }
    }
    all
}

fn parse_xattrs(stored: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut at = 12;
    while at < stored.len() {
        let (name_len, value_len) = (usize::from(stored[at]), usize::from(u16_at(stored, at + 2)));
        let prefix = match stored[at + 1] {
            1 => "user.",
            2 => "system.posix_acl_access",
            3 => "system.posix_acl_default",
            4 => "trusted.",
            6 => "security.",
            other => panic!("prefix {other}"),
        };
        let name = std::str::from_utf8(&stored[at + 4..at + 4 + name_len]).unwrap();
        let value = &stored[at + 4 + name_len..at + 4 + name_len + value_len];
        all.insert(format!("{prefix}{name}"), value.to_vec());
        at = (at + 4 + name_len + value_len).next_multiple_of(4);
    }
    all
}

/// CRC-32C by long division, bit by bit, over the first block from the superblock on without the checksum itself.
fn checksum(image: &[u8]) -> u32 {
    let mut covered = image[1024..BLOCK].to_vec();
    covered[4..8].fill(0);
    let mut register = u32::MAX;
    for bit in covered.iter().flat_map(|byte| (0..8).map(move |i| byte >> i & 1)) {
        let carry = (register & 1) ^ u32::from(bit);
        register = register >> 1 ^ if carry == 1 { 0x82f6_3b78 } else { 0 };
    }
    register
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
