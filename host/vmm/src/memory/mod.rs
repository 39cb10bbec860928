//! Guest RAM: reserved here, touched by nobody but kernel loading, devices and the guest.

mod ram;

pub use ram::{MemoryError, MemorySize, allocate, large_pages};

/// Guest RAM as every device sees it: anonymous and private, without a dirty bitmap.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
