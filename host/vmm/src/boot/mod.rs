//! From files to a guest that is ready to be entered.
//!
//! Kernel and initrd come as descriptors and are laid into guest RAM page by page as private views of the file, so that
//! pages which nobody writes are shared with the page cache and every other VM, and never copied.

pub mod cmdline;
mod early;
mod initrd;
mod kernel;
mod source;

use std::fs::File;
use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::arch::x86_64::regs::{self, Entry};
use crate::arch::x86_64::{layout, linux64, mptable, pvh};
use crate::memory::{GuestMemory, MemorySize};

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file is something else.
    #[error("the kernel file is no x86-64 Linux kernel: {0}; give an ELF vmlinux")]
    NotAKernel(&'static str),
    /// A compressed image.
    #[error("the kernel file is a bzImage; give the ELF vmlinux of the same build")]
    BzImage,
    /// It ends too early or does not fit.
    #[error("the kernel does not fit into {mib} MiB of memory, or its file is cut short")]
    KernelDoesNotFit {
        /// RAM of the guest.
        mib: u64,
    },
    /// The file cannot be read.
    #[error("failed to read the {what}")]
    Read {
        /// Kernel or initrd.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No room between kernel and end of memory.
    #[error(
        "an initrd of {bytes} bytes does not fit beside the kernel in {mib} MiB of memory; give the guest more"
    )]
    InitrdDoesNotFit {
        /// Size of the initrd.
        bytes: u64,
        /// RAM of the guest.
        mib: u64,
    },
    /// Kernel command line too long.
    #[error("the kernel command line has {0} bytes, the kernel reads at most {max}", max = layout::COMMAND_LINE_MAX - 1)]
    CommandLineTooLong(usize),
    /// A character that would end or confuse the command line.
    #[error("the kernel command line contains a control character")]
    CommandLineControl,
    /// Tables do not fit, which the layout rules out.
    #[error("failed to write boot tables")]
    Tables(#[from] GuestMemoryError),
}

/// What to boot.
#[derive(Debug)]
pub struct Image<'a> {
    /// ELF vmlinux.
    pub kernel: &'a File,
    /// cpio archive.
    pub initrd: Option<&'a File>,
    /// Complete command line.
    pub cmdline: &'a str,
    /// Processors for the MP table.
    pub vcpus: u8,
    /// MMIO slots for the MP table.
    pub devices: usize,
}

/// Loads `image` and writes the tables that its kernel reads; answers where and how the boot vCPU enters it.
pub fn load(memory: &GuestMemory, size: MemorySize, image: &Image<'_>) -> Result<Entry, BootError> {
    let kernel = kernel::load(memory, size, image.kernel)?;
    let initrd = match image.initrd {
        Some(file) => initrd::load(memory, size, file, kernel.end)?,
        None => None,
    };
    let top = initrd.map_or(size.bytes().min(layout::HOLE_START), |(address, _)| address);
    early::prefault(memory, size.bytes(), kernel.end..top)?;
    let map = layout::memory_map(size.bytes());
    memory.write_slice(&cmdline::terminated(image.cmdline)?, GuestAddress(layout::COMMAND_LINE))?;
    memory.write_slice(&mptable::table(image.vcpus, image.devices), GuestAddress(layout::MP_TABLE))?;
    match kernel.entry {
        Entry::Pvh(_) => {
            for (address, bytes) in pvh::tables(&map, initrd) {
                memory.write_slice(&bytes, GuestAddress(address))?;
            }
        }
        Entry::Linux64(_) => {
            linux64::write_zero_page(memory, &map, image.cmdline.len() as u32, initrd)?;
            linux64::write_page_tables(memory)?;
        }
    }
    regs::write_gdt(memory, kernel.entry)?;
    Ok(kernel.entry)
}
