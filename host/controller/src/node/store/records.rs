//! The two records, their fields for filters and for updates.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::documents::{Document, Record};
use crate::id::{ContainerId, SandboxId};
use crate::node::fields::{self, FieldError, Path};
use crate::node::filter::Fields;
use crate::node::values::Payload;

/// The runtime that a record names. Kept, not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: Option<Payload>,
    /// Its options in the form of 2017, where they are words.
    pub words: BTreeMap<String, String>,
}

/// A sandbox as containerd's store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxRecord {
    /// Unique in its namespace, never changed.
    pub id: SandboxId,
    /// The runtime.
    pub runtime: Option<Runtime>,
    /// The specification.
    pub spec: Option<Payload>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Set by the store.
    pub created_at: SystemTime,
    /// Set by the store.
    pub updated_at: SystemTime,
    /// Whatever clients keep beside it, by a name of theirs.
    pub extensions: BTreeMap<String, Payload>,
    /// The plugin that runs it.
    pub sandboxer: String,
}

/// A container as containerd's containers service keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRecord {
    /// Unique in its namespace, never changed.
    pub id: ContainerId,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Reference of its image.
    pub image: String,
    /// The runtime.
    pub runtime: Option<Runtime>,
    /// An OCI runtime specification as JSON.
    pub spec: Option<Payload>,
    /// Who made its snapshot.
    pub snapshotter: String,
    /// Key of its root file system's snapshot; `rootfs` in the form of 2017.
    pub snapshot_key: String,
    /// Set by the store.
    pub created_at: SystemTime,
    /// Set by the store.
    pub updated_at: SystemTime,
    /// Whatever clients keep beside it, by a name of theirs.
    pub extensions: BTreeMap<String, Payload>,
    /// The sandbox that it joins; `None` for one of its own.
    pub sandbox: Option<SandboxId>,
}

impl SandboxRecord {
    /// A record with nothing but its id.
    pub fn new(id: SandboxId) -> Self {
        let now = SystemTime::now();
        Self {
            id,
            runtime: None,
            spec: None,
            labels: BTreeMap::new(),
            created_at: now,
            updated_at: now,
            extensions: BTreeMap::new(),
            sandboxer: String::new(),
        }
    }
}

impl ContainerRecord {
    /// A record with nothing but its id.
    pub fn new(id: ContainerId) -> Self {
        let now = SystemTime::now();
        Self {
            id,
            labels: BTreeMap::new(),
            image: String::new(),
            runtime: None,
            spec: None,
            snapshotter: String::new(),
            snapshot_key: String::new(),
            created_at: now,
            updated_at: now,
            extensions: BTreeMap::new(),
            sandbox: None,
        }
    }
}

impl Document for SandboxRecord {
    const WHAT: &'static str = "sandbox";

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Record for SandboxRecord {
    const ALL: &'static [&'static str] = &["labels", "extensions", "spec", "runtime"];

    fn check_whole(&self, _: &Self) -> Result<(), FieldError> {
        Ok(())
    }

    fn created(&mut self, at: SystemTime) {
        (self.created_at, self.updated_at) = (at, at);
    }

    fn take(&mut self, from: &Self, path: Path<'_>) -> Result<(), FieldError> {
        match (path.field, path.key) {
            ("labels", key) => fields::take_map(&mut self.labels, &from.labels, key),
            ("extensions", key) => fields::take_map(&mut self.extensions, &from.extensions, key),
            ("spec", None) => self.spec.clone_from(&from.spec),
            ("runtime", None) => self.runtime.clone_from(&from.runtime),
            ("sandboxer", None) => self.sandboxer.clone_from(&from.sandboxer),
            _ => {
                return Err(unknown(Self::WHAT, path, "labels, extensions, spec, runtime or sandboxer"));
            }
        }
        Ok(())
    }

    fn updated(&mut self, at: SystemTime) {
        self.updated_at = at;
    }
}

impl Document for ContainerRecord {
    const WHAT: &'static str = "container";

    fn id(&self) -> &str {
        self.id.as_str()
    }
}

impl Record for ContainerRecord {
    const ALL: &'static [&'static str] = &["labels", "spec", "extensions", "image", "snapshot_key"];

    fn check_whole(&self, from: &Self) -> Result<(), FieldError> {
        let fixed = |field| FieldError::Fixed { what: Self::WHAT, field };
        let runtime = |record: &Self| record.runtime.clone().unwrap_or_default().name;
        match (self.snapshotter == from.snapshotter, runtime(self) == runtime(from)) {
            (false, _) => Err(fixed("snapshotter")),
            (_, false) => Err(fixed("runtime's name")),
            _ => Ok(()),
        }
    }

    fn created(&mut self, at: SystemTime) {
        (self.created_at, self.updated_at) = (at, at);
    }

    fn take(&mut self, from: &Self, path: Path<'_>) -> Result<(), FieldError> {
        match (path.field, path.key) {
            ("labels", key) => fields::take_map(&mut self.labels, &from.labels, key),
            ("extensions", key) => fields::take_map(&mut self.extensions, &from.extensions, key),
            ("spec", None) => self.spec.clone_from(&from.spec),
            ("image", None) => self.image.clone_from(&from.image),
            ("snapshot_key" | "snapshotkey" | "rootfs", None) => {
                self.snapshot_key.clone_from(&from.snapshot_key);
            }
            _ => {
                return Err(unknown(Self::WHAT, path, "labels, extensions, spec, image or snapshot_key"));
            }
        }
        Ok(())
    }

    fn updated(&mut self, at: SystemTime) {
        self.updated_at = at;
    }
}

fn unknown(what: &'static str, path: Path<'_>, known: &'static str) -> FieldError {
    let whole = path.key.map_or_else(|| path.field.to_owned(), |key| format!("{}.{key}", path.field));
    FieldError::Unknown { what, path: whole, known }
}

impl Fields for SandboxRecord {
    fn field(&self, path: &[String]) -> Option<&str> {
        match split(path)? {
            ("id" | "sandbox_id", []) => Some(self.id.as_str()),
            ("labels", key) => label(&self.labels, key),
            ("runtime", [name]) if name == "name" => {
                self.runtime.as_ref().map(|runtime| runtime.name.as_str())
            }
            ("sandboxer", []) => Some(&self.sandboxer),
            _ => None,
        }
    }
}

impl Fields for ContainerRecord {
    fn field(&self, path: &[String]) -> Option<&str> {
        match split(path)? {
            ("id", []) => Some(self.id.as_str()),
            ("labels", key) => label(&self.labels, key),
            ("image", []) => Some(&self.image),
            ("runtime", [name]) if name == "name" => {
                self.runtime.as_ref().map(|runtime| runtime.name.as_str())
            }
            ("sandbox", []) => self.sandbox.as_ref().map(SandboxId::as_str),
            _ => None,
        }
    }
}

fn split(path: &[String]) -> Option<(&str, &[String])> {
    path.split_first().map(|(first, rest)| (first.as_str(), rest))
}

/// Parts of an unquoted key with dots are one key.
fn label<'a>(labels: &'a BTreeMap<String, String>, key: &[String]) -> Option<&'a str> {
    labels.get(&key.join(".")).map(String::as_str)
}
