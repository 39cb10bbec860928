//! The 512-byte header: POSIX ustar's fields and GNU's base-256 numbers.

use crate::tree::{Device, Time};

use super::pax::Extension;
use super::{BLOCK, Entry, EntryKind, TarError};

const NAME: std::ops::Range<usize> = 0..100;
const MODE: std::ops::Range<usize> = 100..108;
const UID: std::ops::Range<usize> = 108..116;
const GID: std::ops::Range<usize> = 116..124;
const SIZE: std::ops::Range<usize> = 124..136;
const MTIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: std::ops::Range<usize> = 157..257;
const MAGIC: std::ops::Range<usize> = 257..263;
const MAJOR: std::ops::Range<usize> = 329..337;
const MINOR: std::ops::Range<usize> = 337..345;
const PREFIX: std::ops::Range<usize> = 345..500;

/// A header whose checksum is right.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn parse(block: [u8; BLOCK]) -> Result<Self, TarError> {
        let header = Self(block);
        let stored = header.number(CHECKSUM)?;
        let others =
            || block.iter().enumerate().filter(|(i, _)| !CHECKSUM.contains(i)).map(|(_, byte)| *byte);
        let blanks = i64::from(b' ') * CHECKSUM.len() as i64;
        let unsigned = blanks + others().map(i64::from).sum::<i64>();
        let signed = blanks + others().map(|byte| i64::from(byte as i8)).sum::<i64>();
        if stored == unsigned || stored == signed {
            Ok(header)
        } else {
            Err(TarError::Header("wrong checksum"))
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[TYPE]
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number(SIZE)?).map_err(|_| TarError::Header("negative size"))
    }

    /// The entry that this header and the extensions before it describe.
    pub(super) fn entry(&self, extension: Extension) -> Result<Entry, TarError> {
        let path = extension.path.unwrap_or_else(|| self.path());
        let link = extension.link.unwrap_or_else(|| text(&self.0[LINK]).to_vec());
        let kind = match self.type_flag() {
            // Before ustar a folder was a file with a slash behind its name.
            b'0' | 0 | b'7' if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => EntryKind::CharDevice(self.device()?),
            b'4' => EntryKind::BlockDevice(self.device()?),
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(TarError::Unsupported("sparse files (GNU)")),
            b'M' => return Err(TarError::Unsupported("multi-volume archives")),
            b'D' | b'N' | b'V' => return Err(TarError::Unsupported("GNU incremental archives")),
            other => return Err(TarError::UnknownType(char::from(other))),
        };
        let size = match (&kind, extension.size) {
            (EntryKind::File, Some(size)) => size,
            (EntryKind::File, None) => self.size()?,
            _ => 0,
        };
        Ok(Entry {
            path,
            kind,
            mode: (self.number(MODE)? & 0o7777) as u16,
            uid: id(extension.uid.map_or_else(|| self.number(UID), Ok)?)?,
            gid: id(extension.gid.map_or_else(|| self.number(GID), Ok)?)?,
            mtime: match extension.mtime {
                Some(time) => time,
                None => Time { seconds: self.number(MTIME)?, nanoseconds: 0 },
            },
            size,
            xattrs: extension.xattrs,
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = text(&self.0[PREFIX]);
        // GNU's own magic ends in two blanks, and its headers hold other things here.
        if &self.0[MAGIC] == b"ustar\0" && !prefix.is_empty() {
            [prefix, b"/", name].concat()
        } else {
            name.to_vec()
        }
    }

    fn device(&self) -> Result<Device, TarError> {
        let number = |field| {
            u64::try_from(self.number(field)?).map_err(|_| TarError::Header("negative device number"))
        };
        Device::new(number(MAJOR)?, number(MINOR)?).ok_or(TarError::Header("device number out of range"))
    }

    /// A number in octal digits with blanks or NULs around, or in base 256 if the first bit is set.
    fn number(&self, field: std::ops::Range<usize>) -> Result<i64, TarError> {
        let bytes = &self.0[field];
        if bytes[0] & 0x80 != 0 {
            let negative = bytes[0] & 0x40 != 0;
            let first = if negative { i128::from(bytes[0]) - 0x100 } else { i128::from(bytes[0] & 0x7f) };
            let value = bytes[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
            return i64::try_from(value).map_err(|_| TarError::Header("number out of range"));
        }
        let digits = bytes.split(|byte| *byte == 0).next().unwrap_or_default().trim_ascii();
        digits.iter().try_fold(0, |value, digit| match digit {
            b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
            _ => Err(TarError::Header("number is not octal")),
        })
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn id(value: i64) -> Result<u32, TarError> {
    u32::try_from(value).map_err(|_| TarError::Header("owner or group out of range"))
}
