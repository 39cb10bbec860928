//! wip
pub mod digest;
pub mod erofs;
pub mod folder;
mod limits;
mod progress;
mod reference;
pub mod tree;
pub use digest::Digest;
