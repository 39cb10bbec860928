//! Container images for microVMs: from an archive, a registry or a folder to one read-only EROFS disk.
//!
//! ```text
//!  OCI layout ─┐                                     ┌─ erofs/<chain>.erofs   one disk per set of layers
//!  docker save ┼─▶ source ─▶ layer ─▶ tree ─▶ erofs ─┤
//!  registry ───┘   (blobs)   (tar)  (merged, (writer)└─ index.json            names, ids, configurations
//!                                     index only)
//!  folder ───────────────▶ folder ─▶ tree ─▶ erofs ──▶ a file of the caller's
//! ```
//!
//! Layers are merged in memory and never unpacked to host paths: a tar entry becomes a node of a [`tree::Tree`], its
//! bytes go to an unnamed spool file, and the tree is then written as an EROFS image. A hostile archive therefore has
//! no path to escape to; what it can do is ask for too much, and [`Limits`] bounds that.
//!
//! Every blob is verified (manifest, configuration, layers, and the layers' diff ids) before anything is published in
//! the [`Store`].

pub mod beneath;
pub mod digest;
pub mod erofs;
pub mod folder;
pub mod layer;
mod limits;
mod progress;
mod reference;
#[cfg(feature = "registry")]
pub mod registry;
pub mod source;
mod store;
pub mod tar;
pub mod tree;

pub use digest::Digest;
pub use limits::Limits;
pub use oci_spec::image::{Config, ImageConfiguration};
pub use progress::{Progress, Silent, Step};
pub use reference::{Reference, ReferenceError};
#[cfg(feature = "registry")]
pub use registry::{Credentials, PullOptions};
pub use store::{Image, ImportOptions, Removal, RemoveOptions, Store, StoreError};
