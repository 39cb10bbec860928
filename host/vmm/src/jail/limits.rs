//! Resource limits, as a second line behind the bounds that the code itself keeps.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use super::JailError;
use crate::virtio::blk::{Disk, SECTOR};

/// Descriptors: per disk its file, queue and interrupt events; per vsock connection one; per vCPU two.
const OPEN_FILES: u64 = 4096;
/// What may be written before any disk is known: the console log and a saved state.
const FILE_BYTES: u64 = 64 << 20;

/// Sets all limits.
pub fn set() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = OPEN_FILES.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    // A write behind the limit becomes an error of that write instead of the end of the process.
    crate::sys::jail::ignore(Signal::SIGXFSZ)?;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    Ok(setrlimit(Resource::RLIMIT_FSIZE, FILE_BYTES.min(hard), hard)?)
}

/// Lets files be written up to `bytes`, if they may not already.
fn allow_files_of(bytes: u64) -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE)?;
    if bytes <= soft {
        return Ok(());
    }
    Ok(setrlimit(Resource::RLIMIT_FSIZE, bytes.min(hard), hard)?)
}

/// Lets a writable disk be written to its end.
pub fn allow_disk(disk: &Disk) -> Result<(), JailError> {
    if disk.read_only() {
        return Ok(());
    }
    allow_files_of(disk.sectors().saturating_mul(SECTOR))
        .map_err(JailError::doing("raise the file size limit"))
}
