//! What depends on the guest's instruction set. Another architecture is another folder with the same items.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("theca-vmm runs on x86_64 only so far; add a folder beside arch/x86_64");
