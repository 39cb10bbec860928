//! The virtual machine as KVM sees it: memory, interrupt controllers and the events that bypass user space.
//!
//! Order matters: memory is registered before the interrupt controllers exist. The other way round every change of memory waits
//! for a grace period of KVM's readers, milliseconds each.

mod capabilities;
mod vm;

pub use capabilities::{KvmError, MAX_VCPUS, check, check_count};
pub use vm::Vm;
