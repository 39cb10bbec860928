//! The PVH boot protocol (Xen's x86/HVM direct boot ABI, version 1): start info, module list and memory map.

use super::layout::{self, Range};
use super::record::Record;

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;

/// What goes where in guest memory, as `(address, bytes)`. `initrd` is its `(address, length)`.
pub fn tables(map: &[Range], initrd: Option<(u64, u64)>) -> Vec<(u64, Vec<u8>)> {
    let start_info = Record::new()
        .u32(MAGIC)
        .u32(VERSION)
        .u32(0)
        .u32(u32::from(initrd.is_some()))
        .u64(if initrd.is_some() { layout::PVH_MODULES } else { 0 })
        .u64(layout::COMMAND_LINE)
        .u64(0)
        .u64(layout::PVH_MEMORY_MAP)
        .u32(map.len() as u32)
        .u32(0);
    let mut tables = vec![(layout::PVH_START_INFO, start_info.finish())];
    if let Some((address, length)) = initrd {
        tables.push((layout::PVH_MODULES, Record::new().u64(address).u64(length).u64(0).u64(0).finish()));
    }
    let memory_map = map.iter().fold(Record::new(), |record, range| {
        record.u64(range.start).u64(range.length).u32(range.kind as u32).u32(0)
    });
    tables.push((layout::PVH_MEMORY_MAP, memory_map.finish()));
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_do_not_overlap_and_have_the_sizes_of_the_abi() {
        let map = layout::memory_map(8 << 30);
        let mut tables = tables(&map, Some((0x100_0000, 4096)));
        assert_eq!(tables.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [56, 32, 24 * map.len()]);
        tables.sort();
        for pair in tables.windows(2) {
            assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
        }
    }

    #[test]
    fn without_an_initrd_there_is_no_module() {
        let tables = tables(&layout::memory_map(64 << 20), None);
        assert_eq!(tables.len(), 2);
        assert_eq!(tables[0].1[12..24], [0; 12]);
    }
}
