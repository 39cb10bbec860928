//! Reserving guest RAM. Nothing is touched: a page costs when the guest first writes it.

use std::io;

use nix::sys::prctl;
use vm_memory::mmap::{FromRangesError, GuestRegionMmap};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionCollectionError};

use super::GuestMemory;
use crate::arch::x86_64::layout;
use crate::sys::mapping;

/// Why there is no guest RAM.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Too little for a kernel.
    #[error("{0} MiB of memory is too little for a guest, give at least {min}", min = MemorySize::MIN_MIB)]
    TooSmall(u64),
    /// More than a guest can address here.
    #[error("{0} MiB of memory is more than a guest can have, give at most {max}", max = MemorySize::MAX_MIB)]
    TooLarge(u64),
    /// The host refused the address space.
    #[error(
        "failed to reserve {mib} MiB for the guest; give it less memory, or allow overcommit (vm.overcommit_memory)"
    )]
    Reserve {
        /// What was asked for.
        mib: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The reserved ranges do not form guest memory.
    #[error("failed to lay out guest memory")]
    Layout(#[from] FromRangesError),
    /// As above.
    #[error("failed to lay out guest memory")]
    Collect(#[from] GuestRegionCollectionError),
}

/// A checked amount of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The least that boots.
    pub const MIN_MIB: u64 = 32;
    /// 2 TiB: well inside 46 bits of physical address, which every 64-bit server processor of today has or exceeds.
    pub const MAX_MIB: u64 = 2 << 20;

    /// Checks an amount given in MiB.
    pub fn from_mib(mib: u64) -> Result<Self, MemoryError> {
        match mib {
            ..Self::MIN_MIB => Err(MemoryError::TooSmall(mib)),
            Self::MIN_MIB..=Self::MAX_MIB => Ok(Self(mib)),
            _ => Err(MemoryError::TooLarge(mib)),
        }
    }

    /// The amount in bytes.
    pub fn bytes(self) -> u64 {
        self.0 << 20
    }

    /// The amount in MiB.
    pub fn mib(self) -> u64 {
        self.0
    }
}

/// Reserves RAM and lays it around the hole below 4 GiB.
pub fn allocate(size: MemorySize) -> Result<GuestMemory, MemoryError> {
    let mut regions = Vec::with_capacity(2);
    for (start, length) in layout::ram(size.bytes()) {
        let mapping = mapping::reserve(length as usize)
            .map_err(|source| MemoryError::Reserve { mib: size.mib(), source })?;
        let region =
            GuestRegionMmap::new(mapping, GuestAddress(start)).ok_or(FromRangesError::InvalidGuestRegion)?;
        regions.push(region);
    }
    Ok(GuestMemoryMmap::from_regions(regions)?)
}

/// Whether the host may back this process's memory, guest RAM above all, with large pages, as it is configured to
/// (PR_SET_THP_DISABLE, prctl(2)).
pub fn large_pages(allowed: bool) {
    // Fails only on a kernel without large pages, which is as good.
    let _ = prctl::set_thp_disable(!allowed);
}

#[cfg(test)]
mod tests {
    use vm_memory::{Address, Bytes, GuestMemoryBackend, GuestMemoryRegion};

    use super::*;

    #[test]
    fn absurd_sizes_are_refused_with_the_bound() {
        let text = |mib| MemorySize::from_mib(mib).unwrap_err().to_string();
        assert!(text(31).contains("at least 32"));
        assert!(text(u64::MAX).contains("at most 2097152"));
    }

    #[test]
    fn hundreds_of_gib_cost_nothing_until_touched() {
        let memory = allocate(MemorySize::from_mib(256 << 10).unwrap()).unwrap();
        let last = memory.last_addr();
        assert_eq!(last.raw_value() + 1, (256u64 << 30) + (1 << 30));
        memory.write_obj(7u8, last).unwrap();
        assert!(memory.write_obj(7u8, GuestAddress(layout::HOLE_START)).is_err());
    }

    #[test]
    fn regions_start_on_a_large_page() {
        let memory = allocate(MemorySize::from_mib(64).unwrap()).unwrap();
        let region = memory.iter().next().unwrap();
        assert_eq!(region.as_ptr() as usize % (2 << 20), 0);
        assert_eq!(region.len(), 64 << 20);
    }
}
