//! What sandboxes and containers are to be, durably; never how they fare. This is containerd's sandbox store and its
//! containers service, one JSON document each:
//!
//! ```text
//!   <root>/thecad/<namespace>/sandboxes/<id>.json
//!   <root>/thecad/<namespace>/containers/<id>.json
//! ```
//!
//! A document is replaced in one step and is on the disk when the call answers. All of them are in memory too, so that
//! lists and filters read no file; what a namespace may have of that is bounded.

mod documents;
mod files;
mod records;
mod verbs;

use std::path::Path;

pub use documents::{Document, Documents, Record};
pub use files::{Durability, StoreError};
pub use records::{ContainerRecord, Runtime, SandboxRecord};

/// Both kinds of record.
#[derive(Debug)]
pub struct Store {
    /// containerd's sandbox store.
    pub sandboxes: Documents<SandboxRecord>,
    /// containerd's containers service.
    pub containers: Documents<ContainerRecord>,
}

impl Store {
    /// Reads everything below `root`. A document that cannot be read is set aside and logged: one bad file must not keep a
    /// node from its sandboxes.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let root = root.join("thecad");
        Ok(Self {
            sandboxes: Documents::open(&root, "sandboxes", Durability::Disk)?,
            containers: Documents::open(&root, "containers", Durability::Disk)?,
        })
    }
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
