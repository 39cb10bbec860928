//! All containers of this machine: adding one, finding one by what a person typed, removing one.
//!
//! A container is there once its record is. Its name is a symbolic link to its id, made under a lock; a crash between the
//! two steps leaves a link to nothing, which the next taker of the name replaces.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::held::Held;
use super::id::ContainerId;
use super::lock::Lock;
use super::name::ContainerName;
use super::paths::{ContainerDir, Roots};
use super::record::{Record, RecordError};

/// How many made-up names are tried.
const NAME_ATTEMPTS: usize = 1000;

/// The containers below one pair of roots.
#[derive(Clone, Debug)]
pub struct Shelf {
    roots: Roots,
}

/// Why a container could not be added, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The name belongs to another container.
    #[error(
        "the name {name:?} is taken by container {owner}; remove that with `theca rm {name}` or choose another name"
    )]
    NameTaken {
        /// The name wanted.
        name: String,
        /// The short id of who has it.
        owner: String,
    },
    /// No made-up name was free.
    #[error("no generated name is free; give one with --name")]
    NoNameLeft,
    /// Nothing matches.
    #[error("no such container: {0}; `theca ps -a` lists them")]
    NotFound(String),
    /// Several ids begin so.
    #[error("{typed:?} could mean {count} containers; type more digits of the id")]
    Ambiguous {
        /// What was typed.
        typed: String,
        /// How many match.
        count: usize,
    },
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file or folder could not be used.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Shelf {
    /// The containers below `roots`.
    pub fn new(roots: Roots) -> Self {
        Self { roots }
    }

    /// Where things are.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// One container's folder.
    pub fn folder(&self, id: &ContainerId) -> ContainerDir {
        self.roots.container(id)
    }

    /// Makes a container's folder and record, locked, under the name wanted or a made-up one. It is removed again on drop
    /// unless [`Held::removed_on_drop`] says otherwise.
    pub fn add(
        &self,
        id: &ContainerId,
        name: Option<ContainerName>,
        record: impl FnOnce(ContainerName) -> Record,
    ) -> Result<Held, ShelfError> {
        let names = self.roots.names();
        let failed = |action, path: &PathBuf| {
            let path = path.clone();
            move |source| ShelfError::Io { action, path, source }
        };
        let folder = self.folder(id);
        make_private(&names).map_err(failed("make", &names))?;
        let name_lock = self.name_lock();
        // Until the record is written, so that nobody takes this for a container whose making was cut short.
        let naming = Lock::take(&name_lock).map_err(failed("lock", &name_lock))?;
        let name = self.free_name(id, name)?;

        let bundle = folder.bundle();
        make_private(&bundle).map_err(failed("make", &bundle))?;
        let path = folder.lock();
        let lock = Lock::take(&path).map_err(failed("lock", &path))?;
        let mut new = Held::new(self.clone(), record(name), lock);
        new.removed_on_drop(true);
        new.save()?;
        let link = names.join(new.record.name.as_str());
        symlink(new.record.id.as_str(), &link).map_err(failed("make", &link))?;
        drop(naming);
        Ok(new)
    }

    /// Keeps containers from being made; `None` if one is being made for longer than `patience`.
    pub async fn lock_names_within(&self, patience: Duration) -> Result<Option<Lock>, ShelfError> {
        let names = self.roots.names();
        make_private(&names).map_err(|source| ShelfError::Io { action: "make", path: names, source })?;
        let path = self.name_lock();
        let lock = Lock::take_within(&path, patience).await;
        lock.map_err(|source| ShelfError::Io { action: "lock", path, source })
    }

    fn name_lock(&self) -> PathBuf {
        self.roots.names().join(".lock")
    }

    /// The name wanted, or one made up, with no living owner and no link in the way. The names are locked.
    fn free_name(
        &self,
        id: &ContainerId,
        wanted: Option<ContainerName>,
    ) -> Result<ContainerName, ShelfError> {
        if let Some(name) = wanted {
            return match self.owner(&name)? {
                None => Ok(name),
                Some(owner) => {
                    Err(ShelfError::NameTaken { name: name.to_string(), owner: owner.short().to_owned() })
                }
            };
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = ContainerName::made_up(id, attempt);
            if self.owner(&name)?.is_none() {
                return Ok(name);
            }
        }
        Err(ShelfError::NoNameLeft)
    }

    /// Who has a name. A link that leads to no container is taken away.
    fn owner(&self, name: &ContainerName) -> Result<Option<ContainerId>, ShelfError> {
        let link = self.roots.names().join(name.as_str());
        let Some(id) = self.linked(name)? else { return Ok(None) };
        if self.folder(&id).record().exists() {
            return Ok(Some(id));
        }
        fs::remove_file(&link).map_err(|source| ShelfError::Io { action: "remove", path: link, source })?;
        Ok(None)
    }

    fn linked(&self, name: &ContainerName) -> Result<Option<ContainerId>, ShelfError> {
        let link = self.roots.names().join(name.as_str());
        match fs::read_link(&link) {
            Ok(target) => Ok(target.to_str().and_then(|id| id.parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ShelfError::Io { action: "read", path: link, source }),
        }
    }

    /// The ids of all containers, in no order.
    pub fn ids(&self) -> Result<Vec<ContainerId>, ShelfError> {
        let path = self.roots.containers();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ShelfError::Io { action: "list", path, source }),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
    }

    /// The record of one container; `None` if it has gone meanwhile.
    pub fn record(&self, id: &ContainerId) -> Result<Option<Record>, RecordError> {
        match Record::read(&self.folder(id).record()) {
            Ok(record) => Ok(Some(record)),
            Err(RecordError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id that a name, an id or the beginning of an id means.
    pub fn find_id(&self, typed: &str) -> Result<ContainerId, ShelfError> {
        if let Ok(name) = typed.parse()
            && let Some(id) = self.linked(&name)?
            && self.folder(&id).path().exists()
        {
            return Ok(id);
        }
        let mut matching = if typed.is_empty() {
            Vec::new()
        } else {
            self.ids()?.into_iter().filter(|id| id.as_str().starts_with(typed)).collect()
        };
        match (matching.pop(), matching.len()) {
            (Some(id), 0) => Ok(id),
            (Some(_), others) => Err(ShelfError::Ambiguous { typed: typed.to_owned(), count: others + 1 }),
            (None, _) => Err(ShelfError::NotFound(typed.to_owned())),
        }
    }

    /// The container that a name, an id or the beginning of an id means.
    pub fn find(&self, typed: &str) -> Result<Record, ShelfError> {
        let id = self.find_id(typed)?;
        self.record(&id)?.ok_or_else(|| ShelfError::NotFound(typed.to_owned()))
    }

    /// Removes a container's files and frees its name. Idempotent.
    pub fn remove(&self, id: &ContainerId, name: Option<&ContainerName>) -> Result<(), ShelfError> {
        if let Some(name) = name
            && self.linked(name)?.as_ref() == Some(id)
        {
            let link = self.roots.names().join(name.as_str());
            gone(fs::remove_file(&link)).map_err(|source| ShelfError::Io {
                action: "remove",
                path: link,
                source,
            })?;
        }
        let sandbox = self.roots.sandbox(id);
        for path in [self.folder(id).path(), &sandbox] {
            gone(fs::remove_dir_all(path)).map_err(|source| ShelfError::Io {
                action: "remove",
                path: path.to_owned(),
                source,
            })?;
        }
        if let Some(namespace) = sandbox.parent() {
            // A keeper that was killed has left it. Another sandbox may live in it: not ours to insist.
            let _ = fs::remove_dir(namespace);
        }
        Ok(())
    }
}

/// What is not there is as good as removed.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder, and those above it that are missing, for the owner alone: environments hold secrets, and whoever can open
/// a lock can keep it.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::a_record;
    use super::*;

    fn a_shelf() -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Roots::below(folder.path()));
        (folder, shelf)
    }

    fn add(shelf: &Shelf, name: Option<&str>) -> Result<Held, ShelfError> {
        let name = name.map(|name| name.parse().unwrap());
        let record = a_record("placeholder");
        shelf.add(&record.id.clone(), name, |name| Record { name, ..record })
    }

    #[test]
    fn a_container_is_found_by_name_id_and_prefix() {
        let (_folder, shelf) = a_shelf();
        let mut held = add(&shelf, Some("web")).unwrap();
        held.removed_on_drop(false);
        let id = held.record.id.clone();
        for typed in ["web", "/web", id.as_str(), id.short(), &id.as_str()[..3]] {
            assert_eq!(shelf.find(typed).unwrap().id, id, "{typed}");
        }
        assert!(matches!(shelf.find("nothing"), Err(ShelfError::NotFound(typed)) if typed == "nothing"));
        assert!(matches!(shelf.find(""), Err(ShelfError::NotFound(_))));
    }

    #[test]
    fn nobody_else_can_look_at_a_container_or_take_a_lock() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, shelf) = a_shelf();
        let held = add(&shelf, None).unwrap();
        let folder = shelf.folder(&held.record.id);
        for path in [shelf.roots().data(), &shelf.roots().names(), folder.path(), &folder.bundle()] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_taken_name_is_refused_and_leaves_nothing() {
        let (_folder, shelf) = a_shelf();
        let _first = add(&shelf, Some("web")).unwrap();
        let error = add(&shelf, Some("web")).unwrap_err();
        assert!(matches!(&error, ShelfError::NameTaken { name, .. } if name == "web"));
        assert!(error.to_string().contains("theca rm web"));
        assert_eq!(shelf.ids().unwrap().len(), 1);
    }

    #[test]
    fn a_container_that_is_not_kept_leaves_nothing_and_frees_its_name() {
        let (_folder, shelf) = a_shelf();
        drop(add(&shelf, Some("web")).unwrap());
        assert!(shelf.ids().unwrap().is_empty());
        assert!(add(&shelf, Some("web")).is_ok());
    }

    #[test]
    fn the_name_of_a_container_that_vanished_is_free() {
        let (_folder, shelf) = a_shelf();
        let mut held = add(&shelf, Some("web")).unwrap();
        held.removed_on_drop(false);
        fs::remove_dir_all(held.folder().path()).unwrap();
        assert!(add(&shelf, Some("web")).is_ok());
    }

    #[test]
    fn unnamed_containers_get_different_names() {
        let (_folder, shelf) = a_shelf();
        let all: Vec<Held> = (0..50).map(|_| add(&shelf, None).unwrap()).collect();
        let names: std::collections::BTreeSet<_> = all.iter().map(|held| held.record.name.clone()).collect();
        assert_eq!(names.len(), 50);
    }

    #[test]
    fn what_a_killed_keeper_left_goes_with_its_namespace() {
        let (folder, shelf) = a_shelf();
        let held = add(&shelf, Some("web")).unwrap();
        let sandbox = shelf.roots().sandbox(&held.record.id);
        fs::create_dir_all(sandbox.join("ports")).unwrap();
        let other = sandbox.with_file_name("other");
        fs::create_dir(&other).unwrap();
        shelf.remove(&held.record.id, None).unwrap();
        assert!(!sandbox.exists() && other.exists());
        fs::remove_dir(&other).unwrap();
        shelf.remove(&held.record.id, None).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("state")).unwrap().count(), 0);
    }

    #[test]
    fn removing_twice_is_fine() {
        let (_folder, shelf) = a_shelf();
        let mut held = add(&shelf, Some("web")).unwrap();
        held.removed_on_drop(false);
        for _ in 0..2 {
            shelf.remove(&held.record.id, Some(&held.record.name)).unwrap();
        }
        assert!(matches!(shelf.find("web"), Err(ShelfError::NotFound(_))));
    }
}
