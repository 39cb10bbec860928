//! Loading an ELF kernel.

use std::fs::File;
use std::io::{self, Read, Seek};

use linux_loader::loader::elf::{Elf, Error as ElfError, PvhBootCapability};
use linux_loader::loader::{Error as LoadError, KernelLoader};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend};

use super::BootError;
use super::source::Source;
use crate::arch::x86_64::layout::HIGH_MEMORY;
use crate::arch::x86_64::regs::Entry;
use crate::memory::{GuestMemory, MemorySize};

/// A kernel in guest memory.
#[derive(Debug)]
pub struct Kernel {
    /// How to enter it.
    pub entry: Entry,
    /// First byte behind it.
    pub end: u64,
}

/// Bytes of an ELF header and the first program header, which are what tells a kernel from other files.
const HEAD: usize = 64 + 56;
const ELF_MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const MACHINE_X86_64: u16 = 62;
/// Where Linux' boot sector keeps "HdrS".
const BZIMAGE_MAGIC_AT: u64 = 0x202;

/// Loads `file` at its physical addresses.
pub fn load(memory: &GuestMemory, size: MemorySize, file: &File) -> Result<Kernel, BootError> {
    let read = |source| BootError::Read { what: "kernel", source };
    let mut source = Source::new(file).map_err(read)?;
    let head = read_head(&mut source).map_err(read)?;
    check(&head, &mut source)?;
    let loaded = Elf::load(memory, None, &mut source, Some(GuestAddress(HIGH_MEMORY)))
        .map_err(|error| explain(error, size))?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Entry::Pvh(address.raw_value()),
        // Only Linux is entered without a note, and Linux links its first segment into the upper half.
        _ if first_virtual_address(&head) >> 63 == 1 => Entry::Linux64(loaded.kernel_load.raw_value()),
        _ => return Err(BootError::NotAKernel("an ELF program without a kernel's entry point")),
    };
    let (Entry::Pvh(address) | Entry::Linux64(address)) = entry;
    if !memory.address_in_range(GuestAddress(address)) {
        return Err(BootError::KernelDoesNotFit { mib: size.mib() });
    }
    Ok(Kernel { entry, end: loaded.kernel_end })
}

fn read_head(source: &mut Source<'_>) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match source.read(&mut head[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(head)
}

/// Tells the common mistakes apart by name.
fn check(head: &[u8; HEAD], source: &mut Source<'_>) -> Result<(), BootError> {
    if !head.starts_with(ELF_MAGIC) {
        let mut magic = [0; 4];
        let bzimage = source.seek(io::SeekFrom::Start(BZIMAGE_MAGIC_AT)).is_ok()
            && source.read_exact(&mut magic).is_ok()
            && &magic == b"HdrS";
        return Err(if bzimage { BootError::BzImage } else { BootError::NotAKernel("not an ELF file") });
    }
    if head[4] != CLASS_64 || u16::from_le_bytes([head[18], head[19]]) != MACHINE_X86_64 {
        return Err(BootError::NotAKernel("an ELF file for another processor"));
    }
    Ok(())
}

/// `p_vaddr` of the program header that follows the ELF header in every kernel.
fn first_virtual_address(head: &[u8; HEAD]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[64 + 16..64 + 24]);
    u64::from_le_bytes(bytes)
}

fn explain(error: LoadError, size: MemorySize) -> BootError {
    match error {
        LoadError::Elf(ElfError::ReadKernelImage) | LoadError::MemoryOverflow => {
            BootError::KernelDoesNotFit { mib: size.mib() }
        }
        LoadError::Elf(ElfError::InvalidEntryAddress) => {
            BootError::NotAKernel("an ELF program without a kernel's entry point")
        }
        LoadError::Elf(ElfError::InvalidPvhNote | ElfError::ReadNoteHeader) => {
            BootError::NotAKernel("its notes are malformed")
        }
        _ => BootError::NotAKernel("its ELF headers are malformed"),
    }
}
