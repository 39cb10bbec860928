//! The 64-bit Linux boot protocol, for an ELF kernel without a PVH note: zero page and identity page tables.
//!
//! Offsets are those of Linux' `Documentation/arch/x86/boot.rst` and `zero-page.rst`.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::layout::{self, Range};
use super::record::Record;
use crate::memory::GuestMemory;

const E820_ENTRIES: u64 = 0x1e8;
const BOOT_FLAG: u64 = 0x1fe;
const HEADER: u64 = 0x202;
const TYPE_OF_LOADER: u64 = 0x210;
const RAMDISK_IMAGE: u64 = 0x218;
const RAMDISK_SIZE: u64 = 0x21c;
const COMMAND_LINE_POINTER: u64 = 0x228;
const COMMAND_LINE_SIZE: u64 = 0x238;
const E820_TABLE: u64 = 0x2d0;

const BOOT_FLAG_MAGIC: u16 = 0xaa55;
const UNDEFINED_LOADER: u8 = 0xff;

const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
const PAGE_2M: u64 = 2 << 20;

/// Writes the zero page. The initrd lies below 4 GiB, as [`crate::boot`] places it.
pub fn write_zero_page(
    memory: &GuestMemory,
    map: &[Range],
    command_line_length: u32,
    initrd: Option<(u64, u64)>,
) -> Result<(), GuestMemoryError> {
    let at = |offset| GuestAddress(layout::ZERO_PAGE + offset);
    memory.write_obj(BOOT_FLAG_MAGIC, at(BOOT_FLAG))?;
    memory.write_slice(b"HdrS", at(HEADER))?;
    memory.write_obj(UNDEFINED_LOADER, at(TYPE_OF_LOADER))?;
    memory.write_obj(layout::COMMAND_LINE as u32, at(COMMAND_LINE_POINTER))?;
    memory.write_obj(command_line_length, at(COMMAND_LINE_SIZE))?;
    if let Some((address, length)) = initrd {
        memory.write_obj(address as u32, at(RAMDISK_IMAGE))?;
        memory.write_obj(length as u32, at(RAMDISK_SIZE))?;
    }
    memory.write_obj(map.len() as u8, at(E820_ENTRIES))?;
    let table = map.iter().fold(Record::new(), |record, range| {
        record.u64(range.start).u64(range.length).u32(range.kind as u32)
    });
    memory.write_slice(&table.finish(), at(E820_TABLE))
}

/// Maps the first GiB onto itself in 2 MiB pages, which covers kernel, tables and whatever the entry code touches.
pub fn write_page_tables(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    memory.write_obj(layout::PDPT | PRESENT_WRITABLE, GuestAddress(layout::PML4))?;
    memory.write_obj(layout::PAGE_DIRECTORY | PRESENT_WRITABLE, GuestAddress(layout::PDPT))?;
    let directory = (0..512)
        .fold(Record::new(), |record, page| record.u64((page * PAGE_2M) | LARGE_PAGE | PRESENT_WRITABLE));
    memory.write_slice(&directory.finish(), GuestAddress(layout::PAGE_DIRECTORY))
}
