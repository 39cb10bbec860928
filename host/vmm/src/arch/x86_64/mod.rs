//! x86_64: what a vCPU and low memory look like before the first instruction.
//!
//! [`layout`] says where things are in guest-physical memory; [`cpuid`], [`msr`], [`lapic`] and [`regs`] set up a vCPU;
//! [`mptable`], [`pvh`] and [`linux64`] write the tables that the guest kernel reads.

pub mod cpuid;
pub mod gdt;
pub mod lapic;
pub mod layout;
pub mod linux64;
pub mod mptable;
pub mod msr;
pub mod pvh;
pub mod record;
pub mod regs;
pub mod setup;
