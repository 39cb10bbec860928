//! The MP table: without ACPI it is how the guest finds its processors and the IOAPIC.
//!
//! Intel MultiProcessor Specification 1.4, chapter 4: a floating pointer, a header, then one entry per processor, the bus,
//! the IOAPIC, one interrupt source per line in use, and the two local inputs. Line N of the ISA bus is pin N,
//! edge-triggered, which is what an irqfd without resampling raises. Lines without a device are left out: the guest
//! programs every line that it is told of, at an exit per register.

use std::collections::BTreeSet;

use super::layout;
use super::record::Record;

const SPECIFICATION: u8 = 4;
/// Version of the integrated local APIC (0x14 in every APIC of this century) and of KVM's IOAPIC.
const LAPIC_VERSION: u8 = 0x14;
const IOAPIC_VERSION: u8 = 0x11;
const ISA_BUS: u8 = 0;
const FLOATING_POINTER_BYTES: u64 = 16;
const ALL_LAPICS: u8 = 0xff;

const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTERNAL: u8 = 3;

/// The interval timer's line, for kernels that find no better clock.
const TIMER_LINE: u8 = 0;

/// The table for `vcpus` processors with APIC ids from 0 and `devices` MMIO slots, to be placed at [`layout::MP_TABLE`].
pub fn table(vcpus: u8, devices: usize) -> Vec<u8> {
    let ioapic_id = vcpus;
    let mut entries = Vec::new();
    for id in 0..vcpus {
        let enabled_and_boot = if id == 0 { 0b11 } else { 0b01 };
        let entry = Record::new().u8(0).u8(id).u8(LAPIC_VERSION).u8(enabled_and_boot);
        // Family, model and features are read from CPUID by whoever cares.
        entries.push(entry.u32(0).u32(0).u64(0).finish());
    }
    entries.push(Record::new().u8(1).u8(ISA_BUS).bytes(b"ISA   ").finish());
    entries.push(Record::new().u8(2).u8(ioapic_id).u8(IOAPIC_VERSION).u8(1).u32(layout::IOAPIC).finish());
    let lines: BTreeSet<u8> = (0..devices).map(|slot| layout::irq(slot) as u8).chain([TIMER_LINE]).collect();
    for line in lines {
        entries.push(interrupt(3, INTERRUPT_VECTORED, line, ioapic_id, line));
    }
    entries.push(interrupt(4, INTERRUPT_EXTERNAL, 0, 0, 0));
    entries.push(interrupt(4, INTERRUPT_NMI, 0, ALL_LAPICS, 1));
    assemble(&entries)
}

/// An interrupt source of the IOAPIC (`entry` 3) or a local APIC (`entry` 4); flags 0 follow the bus: edge, active high.
fn interrupt(entry: u8, kind: u8, source: u8, controller: u8, pin: u8) -> Vec<u8> {
    Record::new().u8(entry).u8(kind).u16(0).u8(ISA_BUS).u8(source).u8(controller).u8(pin).finish()
}

fn assemble(entries: &[Vec<u8>]) -> Vec<u8> {
    const HEADER_BYTES: usize = 44;
    let length = HEADER_BYTES + entries.iter().map(Vec::len).sum::<usize>();
    let header = Record::new()
        .bytes(b"PCMP")
        .u16(length as u16)
        .u8(SPECIFICATION)
        .u8(0)
        .bytes(b"THECA   ")
        .bytes(b"THECA-VMM   ")
        .u32(0)
        .u16(0)
        .u16(entries.len() as u16)
        .u32(layout::LAPIC)
        .u32(0);
    let mut table = header.finish();
    table.extend(entries.iter().flatten());
    table[7] = checksum(&table);

    let address = (layout::MP_TABLE + FLOATING_POINTER_BYTES) as u32;
    let pointer = Record::new().bytes(b"_MP_").u32(address).u8(1).u8(SPECIFICATION).u8(0);
    let mut bytes = pointer.u32(0).u8(0).finish();
    bytes[10] = checksum(&bytes);
    bytes.extend(table);
    bytes
}

/// The byte that makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn both_parts_sum_to_zero() {
        let bytes = table(2, 4);
        assert_eq!(&bytes[..4], b"_MP_");
        assert_eq!(sum(&bytes[..16]), 0);
        assert_eq!(&bytes[16..20], b"PCMP");
        assert_eq!(sum(&bytes[16..]), 0);
    }

    #[test]
    fn the_stated_length_is_the_length() {
        let bytes = table(3, 4);
        assert_eq!(usize::from(u16::from_le_bytes([bytes[20], bytes[21]])), bytes.len() - 16);
    }

    #[test]
    fn only_lines_in_use_are_listed() {
        let lines = |devices| (table(1, devices).len() - table(1, 0).len()) / 8;
        assert_eq!((lines(0), lines(4), lines(19), lines(40)), (0, 4, 19, 19));
    }

    #[test]
    fn the_largest_machine_fits_below_the_reserved_area() {
        assert!(table(32, 99).len() <= layout::MP_TABLE_MAX, "{} bytes", table(32, 99).len());
    }
}
