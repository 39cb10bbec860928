//! Placing the initrd: at the top of the memory below the hole, where the guest's early allocations come last.

use std::fs::File;

use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use super::source::Source;
use crate::arch::x86_64::layout::HOLE_START;
use crate::memory::{GuestMemory, MemorySize};
use crate::sys::mapping::PAGE;

/// Loads `file` behind `kernel_end`; answers its address and length, or nothing for an empty file.
pub fn load(
    memory: &GuestMemory,
    size: MemorySize,
    file: &File,
    kernel_end: u64,
) -> Result<Option<(u64, u64)>, BootError> {
    let read = |source| BootError::Read { what: "initrd", source };
    let mut source = Source::new(file).map_err(read)?;
    let bytes = source.length();
    if bytes == 0 {
        return Ok(None);
    }
    let does_not_fit = BootError::InitrdDoesNotFit { bytes, mib: size.mib() };
    let Some(address) = place(size.bytes().min(HOLE_START), bytes, kernel_end) else {
        return Err(does_not_fit);
    };
    memory
        .read_exact_volatile_from(GuestAddress(address), &mut source, bytes as usize)
        .map_err(|error| read(std::io::Error::other(error)))?;
    Ok(Some((address, bytes)))
}

/// The highest page at which `bytes` fit between `kernel_end` and `top`.
fn place(top: u64, bytes: u64, kernel_end: u64) -> Option<u64> {
    let address = top.checked_sub(bytes)? & !(PAGE as u64 - 1);
    (address >= kernel_end).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_in_the_last_page_and_starts_on_one() {
        assert_eq!(place(128 << 20, 5000, 20 << 20), Some((128 << 20) - 8192));
    }

    #[test]
    fn it_never_overlaps_the_kernel() {
        assert_eq!(place(32 << 20, 13 << 20, 20 << 20), None);
        assert_eq!(place(32 << 20, u64::MAX, 20 << 20), None);
    }
}
