//! Guest RAM.

/// Guest RAM as every device sees it: anonymous and private, without a dirty bitmap.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
