//! JSON documents in folders by namespace: one file each, replaced in one step, and all of them in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::id::Namespace;
use crate::node::error::Error;
use crate::node::fields::{self, FieldError};
use crate::node::filter::{Fields, Filters};
use crate::node::private;
#[cfg(any(test, feature = "testing"))]
use crate::node::testing::life::Life;

/// Largest document, as a bound of what one request may leave on the disk.
const MAX_BYTES: usize = 4 << 20;
/// Documents of one kind in one namespace.
const MAX_DOCUMENTS: usize = 100_000;

/// A document could not be kept or read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: Arc<io::Error>,
}

impl StoreError {
    /// Of what was to be done to a path.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source: Arc::new(source) }
    }
}

/// Where a document is when a call has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the disk: it outlives a loss of power.
    Disk,
    /// With the kernel: it outlives this process, on a file system that does not outlive the machine anyway.
    Kernel,
}

/// What can be kept.
pub trait Document: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// What it is, in errors.
    const WHAT: &'static str;

    /// Its name, which is a valid id.
    fn id(&self) -> &str;
}

/// What clients keep and change.
pub trait Record: Document + Fields {
    /// Fields that an update without paths takes over.
    const ALL: &'static [&'static str];

    /// It is new at `at`.
    fn created(&mut self, at: SystemTime);
    /// It has changed at `at`.
    fn updated(&mut self, at: SystemTime);
    /// Takes over one field.
    fn take(&mut self, from: &Self, path: fields::Path<'_>) -> Result<(), FieldError>;
}

/// All documents of one kind.
pub struct Documents<D> {
    folder: PathBuf,
    kind: &'static str,
    durability: Durability,
    all: Mutex<BTreeMap<Namespace, BTreeMap<String, D>>>,
    /// Tests end a node's process between two writes.
    #[cfg(any(test, feature = "testing"))]
    life: Option<Arc<Life>>,
}

impl<D> fmt::Debug for Documents<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("folder", &self.folder).field("kind", &self.kind).finish()
    }
}

impl<D: Document> Documents<D> {
    /// Reads `<folder>/<namespace>/<kind>/<id>.json` of all namespaces.
    pub fn open(folder: &Path, kind: &'static str, durability: Durability) -> Result<Self, StoreError> {
        let mut all: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for namespace in names(folder)? {
            let Ok(parsed) = Namespace::from_str(&namespace) else { continue };
            for name in names(&folder.join(&namespace).join(kind))? {
                let path = folder.join(&namespace).join(kind).join(&name);
                let Some(id) = name.strip_suffix(".json").filter(|id| !id.starts_with('.')) else { continue };
                match read::<D>(&path) {
                    Ok(document) if document.id() == id => {
                        all.entry(parsed.clone()).or_default().insert(id.to_owned(), document);
                    }
                    Ok(_) => set_aside(&path, "it has another's id"),
                    Err(error) => set_aside(&path, &error.to_string()),
                }
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            kind,
            durability,
            all: Mutex::new(all),
            #[cfg(any(test, feature = "testing"))]
            life: Life::current(),
        })
    }

    /// Keeps one, new or not, as it is.
    pub fn put(&self, namespace: &Namespace, document: D) -> Result<(), Error> {
        let mut all = self.lock();
        self.write(namespace, &document)?;
        all.entry(namespace.clone()).or_default().insert(document.id().to_owned(), document);
        Ok(())
    }

    /// The one called `id`.
    pub fn get(&self, namespace: &Namespace, id: &str) -> Result<D, Error> {
        self.find(namespace, id).ok_or_else(|| unknown::<D>(id))
    }

    /// The one called `id`, if there is one.
    pub fn find(&self, namespace: &Namespace, id: &str) -> Option<D> {
        self.lock().get(namespace).and_then(|here| here.get(id)).cloned()
    }

    /// Everything, by namespace and id.
    pub fn all(&self) -> Vec<(Namespace, D)> {
        let all = self.lock();
        all.iter().flat_map(|(name, here)| here.values().map(|one| (name.clone(), one.clone()))).collect()
    }

    /// Forgets the one called `id`.
    pub fn delete(&self, namespace: &Namespace, id: &str) -> Result<D, Error> {
        let mut all = self.lock();
        let here = all.get_mut(namespace).filter(|here| here.contains_key(id));
        let here = here.ok_or_else(|| unknown::<D>(id))?;
        let path = self.path(namespace, id);
        self.touch(|| {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::of("remove", &path)(error).into());
                }
                _ => {}
            }
            if self.durability == Durability::Disk {
                sync_folder(&path)?;
            }
            Ok(())
        })?;
        here.remove(id).ok_or_else(|| unknown::<D>(id))
    }

    /// Forgets the one called `id`, if there is one.
    pub fn remove(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        match self.delete(namespace, id) {
            Err(Error::UnknownRecord { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn path(&self, namespace: &Namespace, id: &str) -> PathBuf {
        self.folder.join(namespace.as_str()).join(self.kind).join(format!("{id}.json"))
    }

    /// A reader sees the old or the new document, never half, whenever the machine stops.
    fn write(&self, namespace: &Namespace, document: &D) -> Result<(), Error> {
        let path = self.path(namespace, document.id());
        let text =
            serde_json::to_vec(document).map_err(|error| StoreError::of("encode", &path)(error.into()))?;
        if text.len() > MAX_BYTES {
            return Err(Error::TooLarge { what: "the record", limit: MAX_BYTES });
        }
        // No id begins with a dot.
        let fresh = path.with_file_name(format!(".{}.new", document.id()));
        let written = || -> io::Result<()> {
            let open = || private::fresh_file().open(&fresh);
            let mut file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    private::make_folder(path.parent().unwrap_or(&self.folder))?;
                    open()?
                }
                other => other?,
            };
            file.write_all(&text)?;
            if self.durability == Durability::Disk {
                file.sync_all()?;
            }
            fs::rename(&fresh, &path)
        };
        self.touch(|| {
            written().map_err(StoreError::of("write", &path))?;
            if self.durability == Durability::Disk {
                sync_folder(&path)?;
            }
            Ok(())
        })
    }

    /// Changes a file.
    #[cfg(not(any(test, feature = "testing")))]
    fn touch(&self, change: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        change()
    }

    /// Changes a file, while the node lives.
    #[cfg(any(test, feature = "testing"))]
    fn touch(&self, change: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let Some(life) = &self.life else { return change() };
        if !life.goes_on() {
            return Ok(());
        }
        change()?;
        life.goes_on();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Namespace, BTreeMap<String, D>>> {
        // A panic between the file and the map would leave the older document in the map, which is a state too.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Record> Documents<D> {
    /// Keeps a new one.
    pub fn create(&self, namespace: &Namespace, mut document: D) -> Result<D, Error> {
        let mut all = self.lock();
        let here = all.entry(namespace.clone()).or_default();
        let id = document.id().to_owned();
        if here.contains_key(&id) {
            return Err(Error::RecordExists { what: D::WHAT, id });
        }
        if here.len() >= MAX_DOCUMENTS {
            return Err(Error::TooMany("records in this namespace"));
        }
        document.created(SystemTime::now());
        self.write(namespace, &document)?;
        here.insert(id, document.clone());
        Ok(document)
    }

    /// Takes over the fields at `paths`; all that may change when there is none.
    pub fn update(&self, namespace: &Namespace, from: &D, paths: &[String]) -> Result<D, Error> {
        let paths = fields::parse(paths, D::ALL)?;
        let mut all = self.lock();
        let known = all.get_mut(namespace).and_then(|here| here.get_mut(from.id()));
        let known = known.ok_or_else(|| unknown::<D>(from.id()))?;
        let mut document = known.clone();
        for path in paths {
            document.take(from, path)?;
        }
        document.updated(SystemTime::now());
        self.write(namespace, &document)?;
        *known = document.clone();
        Ok(document)
    }

    /// Those that match any of `filters`, by id.
    pub fn list(&self, namespace: &Namespace, filters: &[String]) -> Result<Vec<D>, Error> {
        let filters = Filters::parse(filters)?;
        let all = self.lock();
        let here = all.get(namespace).into_iter().flat_map(BTreeMap::values);
        Ok(here.filter(|document| filters.match_any(*document)).cloned().collect())
    }
}

fn unknown<D: Document>(id: &str) -> Error {
    Error::UnknownRecord { what: D::WHAT, id: id.to_owned() }
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::of("sync", folder))
}

fn read<D: DeserializeOwned>(path: &Path) -> io::Result<D> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn set_aside(path: &Path, why: &str) {
    warn!(path = %path.display(), why, "a record is set aside");
    if let Err(error) = fs::rename(path, path.with_extension("broken")) {
        warn!(path = %path.display(), %error, "it could not be renamed");
    }
}

fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        other => other.map_err(StoreError::of("read", folder))?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(StoreError::of("read", folder))
}
