//! What a long import or pull tells its caller, and how the caller stops it.

use crate::Digest;

/// A step of bringing in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A blob comes from the registry.
    Fetch(Digest),
    /// A layer is unpacked into the merged tree; named by its diff id.
    Unpack(Digest),
    /// The EROFS image is written; named by the layers' chain id.
    Write(Digest),
}

/// Receives progress. Calls come from the thread that does the work and should return quickly.
///
/// For each step `advanced` comes one or more times, `done` never falling. `total` is absent when nobody told it.
/// A step that was not needed (the same layers are there already) sends nothing.
pub trait Progress: Send + Sync {
    /// `done` of `total` bytes of this step are behind us.
    fn advanced(&self, step: Step, done: u64, total: Option<u64>);

    /// Asked every so often; `true` ends the work with an error, leaving nothing behind.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn advanced(&self, _: Step, _: u64, _: Option<u64>) {}
}
