//! Containers between commands: their records, names, locks and disks.
//!
//! There is no daemon. What a command finds is what earlier commands and keepers left on disk, so every step here can be
//! interrupted: a container that is half made, or whose keeper is gone, is recognised by its lock being free and its phase
//! not matching, and is brought to rest by [`settle`].

pub mod cidfile;
mod disk;
mod held;
mod id;
mod lock;
mod name;
mod paths;
mod record;
pub mod settle;
mod shelf;
mod templates;

pub use disk::{LARGEST as LARGEST_DISK, SMALLEST as SMALLEST_DISK, create as create_disk, pin as pin_disk};
pub use held::Held;
pub use id::ContainerId;
pub use lock::Lock;
pub use name::ContainerName;
pub use paths::{ContainerDir, NAMESPACE, Roots};
#[cfg(test)]
pub use record::tests::a_record as record_for_tests;
pub use record::{Exit, Phase, Record, RecordError, Settings, Source};
pub use shelf::{Shelf, ShelfError};
