//! Every unsafe step of the VMM, behind safe functions.

pub mod guest_io;
pub mod jail;
pub mod kvm;
pub mod mapping;
