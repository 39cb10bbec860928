//! Memory mappings: guest RAM, files laid over it, and the page through which a running vCPU is told to stop.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{MmapRegion, VolatileSlice};

/// Size of a page.
pub const PAGE: usize = 4096;
/// Size of a large page: RAM starts on such a boundary, so that host and guest pages line up.
pub const LARGE_PAGE: usize = 2 << 20;

/// Reserves `length` bytes, a multiple of [`PAGE`], of zero memory that lasts until the process ends.
pub fn reserve(length: usize) -> io::Result<MmapRegion> {
    let padded = length.checked_add(LARGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), padded, prot, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let head = (start as usize).wrapping_neg() % LARGE_PAGE;
    let aligned = start.wrapping_byte_add(head);
    for (from, bytes) in [(start, head), (aligned.wrapping_byte_add(length), LARGE_PAGE - head)] {
        if bytes > 0 {
            // SAFETY: both ends lie within the mapping made above, and nobody has a pointer to them.
            unsafe { libc::munmap(from, bytes) };
        }
    }
    // SAFETY: `aligned..aligned + length` is what remains of the mapping; nothing unmaps it.
    let builder = unsafe { MmapRegionBuilder::new(length).with_raw_mmap_pointer(aligned.cast()) };
    builder
        .with_mmap_prot(prot)
        .with_mmap_flags(flags)
        .build()
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Replaces whole pages of guest RAM by a private view of `file` at `offset`: what nobody writes is never copied.
/// Address, length and offset are multiples of [`PAGE`], and the file reaches to `offset + length`.
pub fn lay_file_over(
    ram: &VolatileSlice<'_, impl BitmapSlice>,
    file: BorrowedFd<'_>,
    offset: u64,
) -> io::Result<()> {
    let guard = ram.ptr_guard_mut();
    let address = guard.as_ptr();
    let aligned = (address as usize | ram.len() | offset as usize).is_multiple_of(PAGE);
    if !aligned || ram.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the slice proves that these pages are guest RAM, which is accessed as volatile bytes only; the new
    // mapping has the same place, length and rights, so every pointer into it stays valid.
    let mapped = unsafe { libc::mmap(address.cast(), ram.len(), prot, flags, file.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A second view of a vCPU's `kvm_run` page, for the one byte that other threads may write.
#[derive(Debug)]
pub struct RunPage(NonNull<AtomicU8>);

// SAFETY: the page is only accessed through an atomic byte.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps the page of `vcpu`.
    pub fn map(vcpu: &VcpuFd) -> io::Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe { libc::mmap(ptr::null_mut(), PAGE, prot, libc::MAP_SHARED, vcpu.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(page.cast()).map(Self).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    /// Whether the next or current `KVM_RUN` returns at once.
    pub fn set_immediate_exit(&self, exit: bool) {
        // SAFETY: the field lies within the mapped page, which lives as long as `self`.
        let flag = unsafe { self.0.byte_add(offset_of!(kvm_run, immediate_exit)).as_ref() };
        flag.store(u8::from(exit), Ordering::SeqCst);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: the page was mapped by `map` and no reference into it outlives `self`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE) };
    }
}
