//! What the node's process writes down of what runs, so that the next one knows what was told of it and what it made up.
//!
//! ```text
//!   <state>/.thecad/<namespace>/sandboxes/<id>.json     how a sandbox was to be, where it stood, how it ended
//!   <state>/.thecad/<namespace>/tasks/<id>.json         a task's record: what was told is what is in it
//!   <state>/.thecad/<namespace>/bundles/<id>/           bundles that the node made
//!   <state>/.thecad/<namespace>/events.log              events that a reader may not have taken
//! ```
//!
//! Root alone can read it: a bundle has its container's environment. It lies beside the keepers' own folders, where it goes with the machine's next boot as they do: then nothing is believed
//! that is not there. No namespace's name begins with a dot.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::private;
use super::sandbox::{CreateSandbox, Standing};
use super::store::{Document, Documents, Durability, StoreError};
use super::task::record::Record;
use super::values::Exit;
use crate::id::{ContainerId, Namespace};

/// The folder's name.
const FOLDER: &str = ".thecad";

/// All of it.
#[derive(Debug)]
pub struct Journal {
    /// Sandboxes.
    pub sandboxes: Documents<SandboxEntry>,
    /// Tasks.
    pub tasks: Documents<Record>,
    folder: PathBuf,
}

/// One sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxEntry {
    /// How it was to be, and as what it was updated since.
    pub create: CreateSandbox,
    /// Whether the node made it for one container.
    pub own_of_container: bool,
    /// When it was created.
    pub created_at: SystemTime,
    /// Where it stands.
    pub standing: Standing,
    /// The process that stands for it on the host.
    pub pid: u32,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Why, when it failed.
    pub reason: String,
    /// Its VM is over.
    pub vm_over: bool,
    /// Why its VM is over, if it is and nobody asked for it.
    pub failure: Option<String>,
    /// Number of the keeper's event that is to be told next.
    pub cursor: u64,
    /// How many changes were told.
    #[serde(default)]
    pub revision: u64,
    /// Containers that it is about to have, and that are to be deleted with their end.
    #[serde(default)]
    pub passing: BTreeSet<ContainerId>,
}

impl SandboxEntry {
    /// Of a sandbox that is being created.
    pub fn new(create: CreateSandbox, own_of_container: bool) -> Self {
        Self {
            create,
            own_of_container,
            created_at: SystemTime::now(),
            standing: Standing::Created,
            pid: 0,
            exit: None,
            reason: String::new(),
            vm_over: false,
            failure: None,
            cursor: 1,
            revision: 0,
            passing: BTreeSet::new(),
        }
    }
}

impl Document for SandboxEntry {
    const WHAT: &'static str = "sandbox";

    fn id(&self) -> &str {
        self.create.id.as_str()
    }
}

impl Journal {
    /// Reads what an earlier process has written below `state`.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        let folder = state.join(FOLDER);
        private::close_folder(&folder).map_err(StoreError::of("close", &folder))?;
        Ok(Self {
            sandboxes: Documents::open(&folder, "sandboxes", Durability::Kernel)?,
            tasks: Documents::open(&folder, "tasks", Durability::Kernel)?,
            folder,
        })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a bundle of a specification.
    pub fn make_bundle(&self, namespace: &Namespace, id: &ContainerId, spec: &[u8]) -> io::Result<PathBuf> {
        let bundle = self.bundles(namespace).join(id.as_str());
        private::make_folder(&bundle)?;
        private::write(&bundle.join("config.json"), spec)?;
        Ok(bundle)
    }

    /// Removes a bundle that [`Journal::make_bundle`] made; any other is not touched.
    pub fn remove_bundle(&self, namespace: &Namespace, id: &ContainerId) -> io::Result<()> {
        match fs::remove_dir_all(self.bundles(namespace).join(id.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Bundles that are there.
    pub fn all_bundles(&self) -> Vec<(Namespace, ContainerId)> {
        let mut all = Vec::new();
        for namespace in names::<Namespace>(&self.folder) {
            let here = names(&self.bundles(&namespace)).into_iter();
            all.extend(here.map(|id| (namespace.clone(), id)));
        }
        all
    }

    /// A folder for a keeper to be started in, for a sandbox without a bundle.
    pub fn sandbox_bundle(&self, namespace: &Namespace) -> io::Result<PathBuf> {
        let folder = self.folder.join(namespace.as_str()).join("sandboxes");
        private::make_folder(&folder)?;
        Ok(folder)
    }

    fn bundles(&self, namespace: &Namespace) -> PathBuf {
        self.folder.join(namespace.as_str()).join("bundles")
    }
}

/// What is in a folder and has such a name; nothing of one that cannot be read.
fn names<T: FromStr>(folder: &Path) -> Vec<T> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_a_container_was_given_is_roots_alone_to_read() {
        let state = tempfile::tempdir().unwrap();
        let (namespace, id) = ("tests".parse().unwrap(), "web".parse().unwrap());
        let journal = Journal::open(state.path()).unwrap();
        let bundle = journal.make_bundle(&namespace, &id, b"{}").unwrap();
        assert_eq!(mode(&bundle.join("config.json")), 0o600);
        for folder in bundle.ancestors().take_while(|folder| *folder != state.path()) {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
        journal.sandbox_bundle(&namespace).unwrap();
        assert_eq!(mode(&state.path().join(".thecad/tests/sandboxes")), 0o700);
    }

    #[test]
    fn a_folder_that_was_left_open_is_closed() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join(".thecad");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        Journal::open(state.path()).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }
}
