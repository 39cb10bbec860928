//! The on-disk form of EROFS (Linux' `fs/erofs/erofs_fs.h`), as far as uncompressed images need it. Little endian.

use crate::tree::Time;

/// Blocks are 4 KiB, as the page size of every machine that mounts them.
pub const BLOCK: u64 = 4096;
/// An inode's number is its place in units of this.
pub const SLOT: u64 = 32;
/// Where the superblock starts in the first block.
pub const SUPERBLOCK_AT: usize = 1024;
/// Length of the superblock.
pub const SUPERBLOCK_LEN: usize = 128;
/// Where the superblock's checksum is, counted from the start of the image.
pub const CHECKSUM_AT: usize = SUPERBLOCK_AT + 4;
/// Length of a directory entry without its name.
pub const DIRENT_LEN: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;

/// The fields of a superblock that are not constants here.
pub struct Superblock {
    /// The root folder's inode number.
    pub root: u16,
    /// Number of inodes.
    pub inodes: u64,
    /// The time of all compact inodes.
    pub time: Time,
    /// Blocks of the whole image.
    pub blocks: u32,
}

impl Superblock {
    /// The superblock with a checksum of zero, the metadata area starting at block 0.
    pub fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut out = [0; SUPERBLOCK_LEN];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 8, &(COMPAT_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        out[12] = BLOCK.trailing_zeros() as u8;
        put(&mut out, 14, &self.root.to_le_bytes());
        put(&mut out, 16, &self.inodes.to_le_bytes());
        put(&mut out, 24, &self.time.seconds.to_le_bytes());
        put(&mut out, 32, &self.time.nanoseconds.to_le_bytes());
        put(&mut out, 36, &self.blocks.to_le_bytes());
        out
    }
}

/// How an inode's bytes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All in blocks of their own, the last one padded.
    Plain,
    /// Whole blocks, and the rest right behind the inode.
    Inline,
}

/// One inode as stored, before its attributes and inline bytes.
#[derive(Clone, Debug)]
pub struct RawInode {
    /// Compact (32 bytes, without a time of its own) or extended (64).
    pub compact: bool,
    /// Where its bytes are.
    pub layout: Layout,
    /// Length of the attributes as in [`xattr_count`].
    pub xattr_count: u16,
    /// File type and permissions as in `st_mode`.
    pub mode: u16,
    /// Names.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// First block of the bytes, or the device number.
    pub union: u32,
    /// Number for 32-bit `stat`.
    pub number: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Ignored by the compact form.
    pub mtime: Time,
}

impl RawInode {
    /// Whether the compact form can hold these values, `time` being the superblock's.
    pub fn fits_compact(uid: u32, gid: u32, links: u32, size: u64, mtime: Time, time: Time) -> bool {
        let short = u32::from(u16::MAX);
        uid <= short && gid <= short && links <= short && size <= u64::from(u32::MAX) && mtime == time
    }

    /// Length of the stored form.
    pub fn len(compact: bool) -> u64 {
        if compact { 32 } else { 64 }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::len(self.compact) as usize];
        let layout = match self.layout {
            Layout::Plain => 0,
            Layout::Inline => 2,
        };
        let format: u16 = u16::from(!self.compact) | layout << 1;
        put(&mut out, 0, &format.to_le_bytes());
        put(&mut out, 2, &self.xattr_count.to_le_bytes());
        put(&mut out, 4, &self.mode.to_le_bytes());
        put(&mut out, 16, &self.union.to_le_bytes());
        put(&mut out, 20, &self.number.to_le_bytes());
        if self.compact {
            put(&mut out, 6, &(self.links as u16).to_le_bytes());
            put(&mut out, 8, &(self.size as u32).to_le_bytes());
            put(&mut out, 24, &(self.uid as u16).to_le_bytes());
            put(&mut out, 26, &(self.gid as u16).to_le_bytes());
        } else {
            put(&mut out, 8, &self.size.to_le_bytes());
            put(&mut out, 24, &self.uid.to_le_bytes());
            put(&mut out, 28, &self.gid.to_le_bytes());
            put(&mut out, 32, &self.mtime.seconds.to_le_bytes());
            put(&mut out, 40, &self.mtime.nanoseconds.to_le_bytes());
            put(&mut out, 44, &self.links.to_le_bytes());
        }
        out
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

/// CRC-32C as the kernel's `crc32c()` computes it from a seed of all ones: reflected, not inverted at the end.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const REFLECTED_POLYNOMIAL: u32 = 0x82f6_3b78;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (REFLECTED_POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_gives_the_published_check_value() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn compact_needs_small_numbers_and_the_common_time() {
        let time = Time { seconds: 1, nanoseconds: 2 };
        assert!(RawInode::fits_compact(65535, 65535, 65535, u32::MAX.into(), time, time));
        assert!(!RawInode::fits_compact(65536, 0, 1, 0, time, time));
        assert!(!RawInode::fits_compact(0, 0, 1, 1 << 32, time, time));
        assert!(!RawInode::fits_compact(0, 0, 1, 0, Time::default(), time));
    }
}
