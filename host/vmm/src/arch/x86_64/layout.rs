//! The guest-physical address map.
//!
//! ```text
//!          0 ┬ 0x472      warm-boot word: how a panic is told from a reboot
//!            │ 0x500      GDT of the boot vCPU
//!            │ 0x6000     PVH start info, module list
//!            │ 0x7000     memory map (PVH) or zero page (64-bit protocol)
//!            │ 0x9000     page tables (64-bit protocol)
//!            │ 0x20000    command line
//!    0x9fc00 ├ MP table, reserved up to 1 MiB
//!   0x100000 ├ RAM: kernel, initrd at its top
//! 0xc0000000 ├ hole: virtio-mmio at 0xd0000000, IOAPIC, LAPIC
//!      4 GiB └ the rest of RAM
//! ```

/// BIOS data area word that Linux sets to [`WARM_BOOT`] when it resets with `reboot=…warm`.
pub const WARM_BOOT_WORD: u64 = 0x472;
/// The value of [`WARM_BOOT_WORD`] after a warm reset.
pub const WARM_BOOT: u16 = 0x1234;

/// Global descriptor table of the boot vCPU.
pub const GDT: u64 = 0x500;
/// `hvm_start_info` of the PVH protocol.
pub const PVH_START_INFO: u64 = 0x6000;
/// `hvm_modlist_entry` of the initrd.
pub const PVH_MODULES: u64 = 0x6040;
/// `hvm_memmap_table_entry` list.
pub const PVH_MEMORY_MAP: u64 = 0x7000;
/// `boot_params` of the 64-bit Linux protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// Initial stack of the 64-bit protocol, growing down to the end of the zero page.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Top-level page table of the 64-bit protocol; the next two levels follow.
pub const PML4: u64 = 0x9000;
/// Page directory pointer table.
pub const PDPT: u64 = 0xa000;
/// Page directory: identity map of the first GiB in 2 MiB pages.
pub const PAGE_DIRECTORY: u64 = 0xb000;
/// Kernel command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Linux's own bound on x86 (`COMMAND_LINE_SIZE`), terminator included.
pub const COMMAND_LINE_MAX: usize = 2048;
/// Last KiB of conventional memory, where Linux looks for an MP table.
pub const MP_TABLE: u64 = 0x9_fc00;
/// Room for the MP table.
pub const MP_TABLE_MAX: usize = 0x400;
/// Start of memory above the legacy hole.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// First byte that is not RAM below 4 GiB.
pub const HOLE_START: u64 = 0xc000_0000;
/// Where RAM continues.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// Registers of virtio-mmio device 0.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Distance of one device's registers to the next.
pub const VIRTIO_MMIO_STRIDE: u64 = 0x1000;
/// First interrupt line given to a device: 0 to 4 belong to the PIT, keyboard, cascade and serial ports.
pub const FIRST_IRQ: u32 = 5;
/// Pins of the in-kernel IOAPIC.
pub const IOAPIC_PINS: u32 = 24;
/// Interrupt lines for devices.
pub const LINES: usize = (IOAPIC_PINS - FIRST_IRQ) as usize;
/// IOAPIC registers.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LAPIC: u32 = 0xfee0_0000;
/// Three pages that Intel hosts need for real mode (`KVM_SET_TSS_ADDR`).
pub const KVM_TSS: usize = 0xfffb_d000;
/// One page that Intel hosts need for real mode (`KVM_SET_IDENTITY_MAP_ADDR`).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;

/// What a guest-physical range is to the guest; values shared by PVH and the Linux zero page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Usable.
    Ram = 1,
    /// Present but not to be used.
    Reserved = 2,
}

/// One line of the memory map that the guest kernel is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it is.
    pub kind: RangeKind,
}

/// Where `bytes` of RAM lie: `(start, length)`, one range or, past the hole, two.
pub fn ram(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(HOLE_START);
    let mut ranges = vec![(0, low)];
    if bytes > low {
        ranges.push((HOLE_END, bytes - low));
    }
    ranges
}

/// The memory map for a guest with `bytes` of RAM.
pub fn memory_map(bytes: u64) -> Vec<Range> {
    let range = |start, end, kind| Range { start, length: end - start, kind };
    let mut map = vec![
        range(0, MP_TABLE, RangeKind::Ram),
        range(MP_TABLE, HIGH_MEMORY, RangeKind::Reserved),
        range(HIGH_MEMORY, bytes.min(HOLE_START), RangeKind::Ram),
    ];
    if bytes > HOLE_START {
        map.push(range(HOLE_END, HOLE_END + (bytes - HOLE_START), RangeKind::Ram));
    }
    map
}

/// Interrupt line of the device in MMIO slot `slot`. Lines would be shared if they ran out: every device has its own status
/// register, and the guest's driver asks for shared lines.
pub fn irq(slot: usize) -> u32 {
    FIRST_IRQ + (slot % LINES) as u32
}

/// Register address of the device in MMIO slot `slot`.
pub fn mmio(slot: usize) -> u64 {
    VIRTIO_MMIO + slot as u64 * VIRTIO_MMIO_STRIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn ram_below_the_hole_is_one_range() {
        assert_eq!(ram(128 * MIB), [(0, 128 * MIB)]);
        assert_eq!(ram(3 * GIB), [(0, 3 * GIB)]);
    }

    #[test]
    fn ram_continues_behind_the_hole() {
        assert_eq!(ram(256 * GIB), [(0, 3 * GIB), (4 * GIB, 253 * GIB)]);
    }

    #[test]
    fn the_memory_map_covers_all_ram_but_the_legacy_hole() {
        for bytes in [32 * MIB, 3 * GIB, 3 * GIB + MIB, 512 * GIB] {
            let usable: u64 = memory_map(bytes)
                .iter()
                .filter(|range| range.kind == RangeKind::Ram)
                .map(|range| range.length)
                .sum();
            assert_eq!(usable, bytes - (HIGH_MEMORY - MP_TABLE));
        }
    }

    #[test]
    fn lines_are_shared_only_after_the_last_pin() {
        let lines: Vec<u32> = (0..20).map(irq).collect();
        assert_eq!(lines[..19], (5..24).collect::<Vec<u32>>());
        assert_eq!(lines[19], 5);
    }
}
