//! Resource limits.

use std::io;

use super::check;

/// Sets a resource limit of the calling process.
pub fn set(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call, which only reads it.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }.into()).map(drop)
}
