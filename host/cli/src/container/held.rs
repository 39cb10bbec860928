//! A container that this command drives: it has the lock, and nobody else starts, settles or removes it meanwhile.

use super::cidfile;
use super::lock::Lock;
use super::paths::ContainerDir;
use super::record::{Phase, Record};
use super::shelf::{Shelf, ShelfError};

/// See the module.
#[derive(Debug)]
pub struct Held {
    shelf: Shelf,
    /// The record; [`Held::save`] writes it.
    pub record: Record,
    _lock: Lock,
    remove: bool,
}

impl Held {
    /// `lock` is the lock of the record's container.
    pub fn new(shelf: Shelf, record: Record, lock: Lock) -> Self {
        Self { shelf, record, _lock: lock, remove: false }
    }

    /// Whether the container is removed when this is dropped. The keeper must have ended by then.
    pub fn removed_on_drop(&mut self, remove: bool) {
        self.remove = remove;
    }

    /// Where things are.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The container's folder.
    pub fn folder(&self) -> ContainerDir {
        self.shelf.folder(&self.record.id)
    }

    /// Writes the record.
    pub fn save(&self) -> Result<(), ShelfError> {
        let path = self.folder().record();
        self.record.write(&path).map_err(|source| ShelfError::Io { action: "write", path, source })
    }

    /// Writes the record with a new phase.
    pub fn enter(&mut self, phase: Phase) -> Result<(), ShelfError> {
        self.record.phase = phase;
        self.save()
    }

    /// Removes the container now.
    pub fn remove(mut self) -> Result<(), ShelfError> {
        self.remove = false;
        self.remove_all()
    }

    fn remove_all(&self) -> Result<(), ShelfError> {
        if let Some(path) = &self.record.cidfile {
            cidfile::remove(path, &self.record.id);
        }
        self.shelf.remove(&self.record.id, Some(&self.record.name))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = self.remove_all()
        {
            crate::output::warn(&format!("{:#}", anyhow::Error::from(error)));
        }
    }
}
