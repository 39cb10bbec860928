//! Large pages for what a kernel fills before its first process.
//!
//! A page that a guest touches first costs an exit and a fault beside its clearing. Where Linux is sure to touch all 512 pages of
//! a large page, one fault instead of 512 is saved time and costs no memory. Elsewhere large pages stay forbidden while the
//! guest boots: see `control::large_pages`.
//!
//! ```text
//!      kernel │ slab … │ 4 MiB: unmovable │ 4 MiB: page cache, programs │ …free… │ struct pages │ initrd
//!             └ first large page                └ both large pages                  └ all of them
//! ```
//!
//! The struct pages (64 bytes for each page of RAM, laid out in large pages for each 128 MiB) are allocated from the top down,
//! right below the initrd; the page allocator begins at the bottom. A kernel that does otherwise loses the time to clear a few
//! large pages, and a host that gives no large pages unasked (`transparent_hugepage/enabled`) a few small ones.

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::layout::HOLE_START;
use crate::memory::{self, GuestMemory};
use crate::sys::mapping::LARGE_PAGE;

const LARGE: u64 = LARGE_PAGE as u64;
/// RAM whose struct pages fill one large page.
const SECTION: u64 = 128 << 20;
/// Largest block of the page allocator.
const BLOCK: u64 = 4 << 20;
/// Below this a guess may fall onto what the guest needs for something else.
const LEAST_RAM: u64 = 64 << 20;

/// Backs with large pages what Linux will fill of a guest of `ram` bytes, whose memory between the end of its kernel and the
/// start of its initrd is free.
pub fn prefault(memory: &GuestMemory, ram: u64, free: Range<u64>) -> Result<(), GuestMemoryError> {
    let pages = filled_early(ram, free);
    if pages.is_empty() {
        return Ok(());
    }
    memory::large_pages(true);
    // The last byte: a kernel's end may lie in the first large page.
    let touched = pages.iter().try_for_each(|page| memory.write_obj(0u8, GuestAddress(page + LARGE - 1)));
    memory::large_pages(false);
    touched
}

/// Addresses of the large pages that Linux fills within the `free` range, in order.
fn filled_early(ram: u64, free: Range<u64>) -> Vec<u64> {
    if ram < LEAST_RAM {
        return Vec::new();
    }
    let top = free.end / LARGE * LARGE;
    // RAM behind the hole has its struct pages there, among larger tables.
    let sections = if ram > HOLE_START { 0 } else { ram.div_ceil(SECTION) };
    let struct_pages = top.saturating_sub(sections * LARGE).max(free.start.next_multiple_of(LARGE));
    let first = free.start / LARGE * LARGE;
    let movable = free.start.next_multiple_of(BLOCK) + BLOCK;
    let low =
        [first, movable, movable + LARGE].into_iter().filter(|page| page + LARGE <= struct_pages.min(top));
    low.chain((struct_pages..top).step_by(LARGE_PAGE)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn mib(ram: u64, free: Range<u64>) -> Vec<u64> {
        filled_early(ram * MIB, free).into_iter().map(|page| page / MIB).collect()
    }

    #[test]
    fn the_allocators_first_blocks_and_the_struct_pages_below_the_initrd() {
        let kernel_end = 16 * MIB + 0x16000;
        assert_eq!(mib(128, kernel_end..128 * MIB - 0x32_7000), [16, 24, 26, 122]);
        assert_eq!(mib(512, kernel_end..512 * MIB - 0x32_7000), [16, 24, 26, 500, 502, 504, 506]);
        assert_eq!(mib(5120, kernel_end..3072 * MIB - 0x32_7000), [16, 24, 26]);
    }

    #[test]
    fn a_little_guest_is_left_alone() {
        assert!(mib(48, 16 * MIB..44 * MIB).is_empty());
    }

    #[test]
    fn nothing_lies_outside_free_memory_whatever_the_sizes() {
        for ram in [64, 65, 96, 127, 128, 129, 3072, 4096, 262_144] {
            for kernel_end in [MIB, 16 * MIB + 1, 40 * MIB, 58 * MIB, 60 * MIB] {
                for initrd_start in [kernel_end, 60 * MIB, (ram * MIB).min(HOLE_START)] {
                    let pages = filled_early(ram * MIB, kernel_end..initrd_start);
                    let bottom = kernel_end / LARGE * LARGE;
                    let outside = pages.iter().find(|page| **page < bottom || **page + LARGE > initrd_start);
                    assert_eq!(outside, None, "{ram} MiB, kernel {kernel_end:#x}, initrd {initrd_start:#x}");
                    assert!(pages.is_sorted_by(|a, b| a < b));
                }
            }
        }
    }
}
