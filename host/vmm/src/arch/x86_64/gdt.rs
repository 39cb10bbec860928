//! Segment descriptors: the table in guest memory and the cached form that KVM wants, from one source.

use kvm_bindings::kvm_segment;

/// One 8-byte descriptor (Intel SDM vol. 3, 3.4.5) with base 0 and a limit of 4 GiB, or a task segment.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Access byte: type, S, DPL, present.
    pub access: u8,
    /// G, D/B, L, AVL from bit 7 down.
    pub flags: u8,
    /// 20-bit limit, in pages if G is set.
    pub limit: u32,
}

/// 32-bit code, readable.
pub const CODE32: Descriptor = Descriptor { access: 0x9b, flags: 0xc, limit: 0xf_ffff };
/// 64-bit code, readable.
pub const CODE64: Descriptor = Descriptor { access: 0x9b, flags: 0xa, limit: 0xf_ffff };
/// Data, writable.
pub const DATA: Descriptor = Descriptor { access: 0x93, flags: 0xc, limit: 0xf_ffff };
/// Busy task segment with the architectural minimum of 104 bytes.
pub const TASK: Descriptor = Descriptor { access: 0x8b, flags: 0x0, limit: 0x67 };

impl Descriptor {
    /// The descriptor as it lies in the table.
    pub fn entry(self) -> u64 {
        let limit = u64::from(self.limit);
        (limit & 0xffff)
            | u64::from(self.access) << 40
            | (limit >> 16 & 0xf) << 48
            | u64::from(self.flags & 0xf) << 52
    }

    /// The hidden part of a segment register that was loaded with entry `index` of the table.
    pub fn segment(self, index: u16) -> kvm_segment {
        let granular = self.flags >> 3 & 1;
        kvm_segment {
            base: 0,
            limit: if granular == 1 { self.limit << 12 | 0xfff } else { self.limit },
            selector: index * 8,
            type_: self.access & 0xf,
            present: self.access >> 7 & 1,
            dpl: self.access >> 5 & 3,
            db: self.flags >> 2 & 1,
            s: self.access >> 4 & 1,
            l: self.flags >> 1 & 1,
            g: granular,
            avl: self.flags & 1,
            unusable: 0,
            padding: 0,
        }
    }
}

/// The table with a null entry, `code`, [`DATA`] and [`TASK`]: selectors 0x08, 0x10, 0x18.
pub fn table(code: Descriptor) -> [u64; 4] {
    [0, code.entry(), DATA.entry(), TASK.entry()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_segments_have_the_well_known_encoding() {
        assert_eq!(CODE32.entry(), 0x00cf_9b00_0000_ffff);
        assert_eq!(CODE64.entry(), 0x00af_9b00_0000_ffff);
        assert_eq!(DATA.entry(), 0x00cf_9300_0000_ffff);
        assert_eq!(TASK.entry(), 0x0000_8b00_0000_0067);
    }

    #[test]
    fn the_cached_limit_counts_bytes() {
        assert_eq!(CODE32.segment(1).limit, u32::MAX);
        assert_eq!(TASK.segment(3).limit, 0x67);
        assert_eq!(TASK.segment(3).selector, 0x18);
    }
}
