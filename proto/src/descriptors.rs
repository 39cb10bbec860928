//! The definitions themselves, one encoded `FileDescriptorSet` per endpoint, for gRPC reflection to hand out.

/// Main endpoint of thecad: all generations, sandboxes and containers in today's form.
#[cfg(feature = "daemon")]
pub const TODAY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/today.bin"));

/// thecad's endpoint for older clients: all generations, sandboxes in the form of 2022, containers in that of 2017.
#[cfg(feature = "daemon")]
pub const GENERATIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generations.bin"));

/// A container's own endpoint: the 2017 shim.
pub const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim.bin"));
