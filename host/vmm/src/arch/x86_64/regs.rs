//! Registers of the boot vCPU at its first instruction. The other vCPUs wait for the start-up message, as KVM creates them.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::{gdt, layout};
use crate::memory::GuestMemory;

/// How the kernel wants to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// PVH: 32-bit protected mode, paging off, RBX points at the start info.
    Pvh(u64),
    /// The 64-bit Linux protocol: long mode, identity-mapped, RSI points at the zero page.
    Linux64(u64),
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of RFLAGS is always one.
const RFLAGS: u64 = 1 << 1;

/// General registers for `entry`.
pub fn general(entry: Entry) -> kvm_regs {
    match entry {
        Entry::Pvh(rip) => {
            kvm_regs { rip, rflags: RFLAGS, rbx: layout::PVH_START_INFO, ..Default::default() }
        }
        Entry::Linux64(rip) => kvm_regs {
            rip,
            rflags: RFLAGS,
            rsi: layout::ZERO_PAGE,
            rsp: layout::BOOT_STACK,
            rbp: layout::BOOT_STACK,
            ..Default::default()
        },
    }
}

/// Segment and control registers for `entry`, on top of what KVM reset them to.
pub fn special(entry: Entry, mut sregs: kvm_sregs) -> kvm_sregs {
    let code = match entry {
        Entry::Pvh(_) => gdt::CODE32,
        Entry::Linux64(_) => gdt::CODE64,
    };
    let data = gdt::DATA.segment(2);
    sregs.cs = code.segment(1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = gdt::TASK.segment(3);
    let limit = (std::mem::size_of_val(&gdt::table(code)) - 1) as u16;
    sregs.gdt = kvm_dtable { base: layout::GDT, limit, padding: [0; 3] };
    sregs.idt = kvm_dtable::default();
    match entry {
        Entry::Pvh(_) => {
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
        }
        Entry::Linux64(_) => {
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = layout::PML4;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
    sregs
}

/// Writes the descriptor table that [`special`] points at.
pub fn write_gdt(memory: &GuestMemory, entry: Entry) -> Result<(), GuestMemoryError> {
    let code = match entry {
        Entry::Pvh(_) => gdt::CODE32,
        Entry::Linux64(_) => gdt::CODE64,
    };
    for (index, descriptor) in gdt::table(code).into_iter().enumerate() {
        memory.write_obj(descriptor, GuestAddress(layout::GDT + index as u64 * 8))?;
    }
    Ok(())
}
