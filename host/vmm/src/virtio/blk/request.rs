//! One request of a disk: header, data and a status byte (virtio 1.2, section 5.2.6).
//!
//! Parsing is pure and complete: a [`Request`] that exists lies within the disk and may be done. Everything else is an
//! answer, not an end: the status byte says so and the disk goes on.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use nix::sys::uio::pwritev;
use virtio_bindings::virtio_blk as abi;

use super::slot::{Disk, SECTOR, Slot};
use crate::sys::guest_io::{self, Clear};
use crate::virtio::{Buffers, Chain};

/// Ranges in one discard or write-zeroes request.
pub const MAX_RANGES: u32 = 32;
/// Sectors in one such range: 1 GiB.
pub const MAX_CLEARED_SECTORS: u32 = 1 << 21;
/// Bytes of the header: type, a reserved word, first sector.
const HEADER: usize = 16;
/// Bytes of a range: first sector, sectors, flags.
const RANGE: usize = 16;
/// The only flag of a range: its blocks need not stay allocated.
const UNMAP: u32 = 1;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A type that this device does not have.
    #[error("request type {0} is not supported")]
    Unsupported(u32),
    /// The parts are not there, or not as long as their type demands.
    #[error("request is malformed")]
    Malformed,
    /// It touches sectors that the disk does not have.
    #[error("request lies outside the disk")]
    OutsideDisk,
    /// It would change a read-only disk.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The file failed.
    #[error("disk I/O failed: {0}")]
    Io(#[from] io::Error),
}

/// Sectors that read as zeroes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Blocks may be given back to the file system.
    pub unmap: bool,
}

/// A checked request; offsets and lengths in bytes.
#[derive(Debug)]
pub enum Request<'m> {
    /// Fill `data` from `offset` on.
    Read {
        /// First byte.
        offset: u64,
        /// Where to.
        data: Buffers<'m>,
    },
    /// Write `data` from `offset` on.
    Write {
        /// First byte.
        offset: u64,
        /// What.
        data: Buffers<'m>,
    },
    /// Make everything answered before durable.
    Flush,
    /// Forget these ranges.
    Discard(Vec<Range>),
    /// Zero these ranges.
    WriteZeroes(Vec<Range>),
    /// Write the serial number to `data`.
    GetId {
        /// Where to.
        data: Buffers<'m>,
    },
}

impl<'m> Request<'m> {
    /// Takes a request apart; `data` is what the driver left between header and status byte.
    pub fn parse(
        header: [u8; 16],
        readable: Buffers<'m>,
        writable: Buffers<'m>,
        disk: Option<&Disk>,
    ) -> Result<Self, RequestError> {
        let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let mut sector = [0; 8];
        sector.copy_from_slice(&header[8..]);
        let sector = u64::from_le_bytes(sector);
        // An empty slot is a disk without sectors.
        let sectors = disk.map_or(0, Disk::sectors);
        let read_only = disk.is_some_and(Disk::read_only);
        if read_only
            && matches!(
                kind,
                abi::VIRTIO_BLK_T_OUT | abi::VIRTIO_BLK_T_DISCARD | abi::VIRTIO_BLK_T_WRITE_ZEROES
            )
        {
            return Err(RequestError::ReadOnly);
        }
        match kind {
            abi::VIRTIO_BLK_T_IN => {
                let offset = place(sector, writable.len(), sectors)?;
                Ok(Self::Read { offset, data: writable })
            }
            abi::VIRTIO_BLK_T_OUT => {
                let offset = place(sector, readable.len(), sectors)?;
                Ok(Self::Write { offset, data: readable })
            }
            abi::VIRTIO_BLK_T_FLUSH => Ok(Self::Flush),
            abi::VIRTIO_BLK_T_DISCARD => Ok(Self::Discard(ranges(readable, sectors, false)?)),
            abi::VIRTIO_BLK_T_WRITE_ZEROES => Ok(Self::WriteZeroes(ranges(readable, sectors, true)?)),
            abi::VIRTIO_BLK_T_GET_ID if writable.is_empty() => Err(RequestError::Malformed),
            abi::VIRTIO_BLK_T_GET_ID => Ok(Self::GetId { data: writable }),
            other => Err(RequestError::Unsupported(other)),
        }
    }

    /// Does it; answers how many bytes of the writable data were written. Calls `waits` before what may take long.
    fn perform(self, disk: Option<&Disk>, slot: &Slot, waits: &mut dyn FnMut()) -> Result<u32, RequestError> {
        let Some(disk) = disk else {
            // Without sectors only these pass the parser.
            return match self {
                Self::Flush => Ok(0),
                _ => Err(RequestError::OutsideDisk),
            };
        };
        match self {
            Self::Read { offset, mut data } => {
                let length = data.len();
                read(disk, offset, &mut data, waits)?;
                slot.counters().read_bytes.fetch_add(length as u64, Ordering::Relaxed);
                // A chain is shorter than 2^32 bytes.
                Ok(u32::try_from(length).unwrap_or(u32::MAX))
            }
            Self::Write { offset, mut data } => {
                let length = data.len();
                waits();
                transfer(offset, &mut data, |data, at| guest_io::write_at(disk.file(), data.pieces(), at))?;
                slot.counters().written_bytes.fetch_add(length as u64, Ordering::Relaxed);
                Ok(0)
            }
            Self::Flush => {
                if !disk.read_only() {
                    waits();
                    disk.file().sync_data()?;
                }
                Ok(0)
            }
            Self::Discard(ranges) => {
                waits();
                for range in ranges {
                    discard(disk, range)?;
                }
                Ok(0)
            }
            Self::WriteZeroes(ranges) => {
                waits();
                for range in ranges {
                    write_zeroes(disk, range)?;
                }
                Ok(0)
            }
            Self::GetId { mut data } => {
                let serial = disk.serial();
                let count = serial.len().min(data.len());
                data.write(&serial[..count]).map_err(|_| RequestError::Malformed)?;
                Ok(count as u32)
            }
        }
    }
}

/// Serves a chain; answers how many bytes of it were written, the status byte included. Calls `waits` before what may take long.
pub(super) fn serve(chain: &mut Chain<'_>, slot: &Slot, waits: &mut dyn FnMut()) -> u32 {
    // Without a byte for the status there is nobody to tell.
    let Some(data_length) = chain.writable.len().checked_sub(1) else { return 0 };
    let Ok(mut status) = chain.writable.split_off(data_length) else { return 0 };
    let (readable, writable) = (std::mem::take(&mut chain.readable), std::mem::take(&mut chain.writable));
    let (status_byte, written) = match handle(readable, writable, slot, waits) {
        Ok(written) => (abi::VIRTIO_BLK_S_OK, written),
        Err(RequestError::Unsupported(_)) => (abi::VIRTIO_BLK_S_UNSUPP, 0),
        Err(_) => (abi::VIRTIO_BLK_S_IOERR, 0),
    };
    match status.write(&[status_byte as u8]) {
        // The status lies behind all data, so everything before it counts as written when the data was.
        Ok(()) => written.saturating_add(1),
        Err(_) => 0,
    }
}

fn handle<'m>(
    mut readable: Buffers<'m>,
    writable: Buffers<'m>,
    slot: &Slot,
    waits: &mut dyn FnMut(),
) -> Result<u32, RequestError> {
    let mut header = [0; HEADER];
    readable.read(&mut header).map_err(|_| RequestError::Malformed)?;
    // The same disk from the first check to the last byte, whatever is attached meanwhile.
    let disk = slot.disk();
    Request::parse(header, readable, writable, disk.as_deref())?.perform(disk.as_deref(), slot, waits)
}

/// The byte offset of `sector` if `length` bytes from there on are whole sectors of the disk.
fn place(sector: u64, length: usize, sectors: u64) -> Result<u64, RequestError> {
    let length = length as u64;
    if !length.is_multiple_of(SECTOR) || length == 0 {
        return Err(RequestError::Malformed);
    }
    let end = sector.checked_add(length / SECTOR).ok_or(RequestError::OutsideDisk)?;
    if end > sectors {
        return Err(RequestError::OutsideDisk);
    }
    sector.checked_mul(SECTOR).ok_or(RequestError::OutsideDisk)
}

fn ranges(mut data: Buffers<'_>, sectors: u64, may_keep: bool) -> Result<Vec<Range>, RequestError> {
    if data.is_empty() || !data.len().is_multiple_of(RANGE) || data.len() / RANGE > MAX_RANGES as usize {
        return Err(RequestError::Malformed);
    }
    let mut ranges = Vec::with_capacity(data.len() / RANGE);
    let mut raw = [0; RANGE];
    while data.read(&mut raw).is_ok() {
        let mut sector = [0; 8];
        sector.copy_from_slice(&raw[..8]);
        let count = u32::from_le_bytes([raw[8], raw[9], raw[10], raw[11]]);
        let flags = u32::from_le_bytes([raw[12], raw[13], raw[14], raw[15]]);
        let unmap = flags & UNMAP != 0;
        // A discard has no flags at all; section 5.2.6.2 demands this very answer.
        if flags & !UNMAP != 0 || unmap && !may_keep {
            return Err(RequestError::Unsupported(flags));
        }
        if count > MAX_CLEARED_SECTORS {
            return Err(RequestError::Malformed);
        }
        let length = u64::from(count) * SECTOR;
        let offset = place(u64::from_le_bytes(sector), length as usize, sectors)?;
        ranges.push(Range { offset, length, unmap });
    }
    Ok(ranges)
}

/// Reads what the page cache has, and waits only for the rest.
fn read(
    disk: &Disk,
    offset: u64,
    data: &mut Buffers<'_>,
    waits: &mut dyn FnMut(),
) -> Result<(), RequestError> {
    let mut cached = true;
    transfer(offset, data, |data, at| {
        if cached {
            if let Some(count) = guest_io::read_cached_at(disk.file(), data.pieces(), at) {
                return Ok(count);
            }
            cached = false;
            waits();
        }
        guest_io::read_at(disk.file(), data.pieces(), at)
    })
}

/// Repeats a system call that may move less than everything. A file shorter than its disk was is an error.
fn transfer(
    mut offset: u64,
    data: &mut Buffers<'_>,
    mut call: impl FnMut(&Buffers<'_>, u64) -> io::Result<usize>,
) -> Result<(), RequestError> {
    while !data.is_empty() {
        let moved = call(data, offset)?;
        if moved == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        data.take_front(moved).map_err(|_| RequestError::Malformed)?;
        offset += moved as u64;
    }
    Ok(())
}

/// A hint: a file system without holes keeps the blocks.
fn discard(disk: &Disk, range: Range) -> Result<(), RequestError> {
    match guest_io::clear(disk.file(), Clear::Deallocate, range.offset, range.length) {
        Err(error) if unsupported(&error) => Ok(()),
        other => Ok(other?),
    }
}

/// Not a hint: where the file system has no quick way, zeroes are written.
fn write_zeroes(disk: &Disk, range: Range) -> Result<(), RequestError> {
    let first = if range.unmap { Clear::Deallocate } else { Clear::KeepAllocated };
    match guest_io::clear(disk.file(), first, range.offset, range.length) {
        Err(error) if unsupported(&error) => Ok(overwrite(disk, range)?),
        other => Ok(other?),
    }
}

fn overwrite(disk: &Disk, range: Range) -> io::Result<()> {
    const ZEROES: [u8; 16 * 1024] = [0; 16 * 1024];
    let (mut at, mut left) = (range.offset, range.length);
    while left > 0 {
        let count = left.min(ZEROES.len() as u64) as usize;
        let offset = i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        let written = pwritev(disk.file(), &[IoSlice::new(&ZEROES[..count])], offset)? as u64;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        at += written;
        left -= written;
    }
    Ok(())
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

#[cfg(test)]
#[path = "request_test.rs"]
mod tests;
