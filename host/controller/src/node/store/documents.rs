//! JSON documents by namespace and id: all of them in memory, and each in a file of its own ([`super::files`]).
//!
//! Who writes waits for the disk with the files' lock alone; the documents' own lock is held for no longer than a look into the map, so
//! readers wait for no disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::files::{Durability, Files, StoreError, Writer};
use crate::id::Namespace;
use crate::node::error::Error;
use crate::node::fields::{self, FieldError};
use crate::node::filter::{Fields, Filters};

/// Largest document, as a bound of what one request may leave on the disk.
const MAX_BYTES: usize = 4 << 20;
/// Records of one kind in one namespace.
const MAX_RECORDS: usize = 100_000;
/// What they may have together, as they are written: they are all in memory.
pub const MAX_BYTES_IN_NAMESPACE: usize = 64 << 20;

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
    /// Whether `from`, which is to replace it as a whole, has what never changes as it is.
    fn check_whole(&self, from: &Self) -> Result<(), FieldError>;
    /// Takes over one field.
    fn take(&mut self, from: &Self, path: fields::Path<'_>) -> Result<(), FieldError>;
}

/// All documents of one kind.
pub struct Documents<D> {
    files: Files,
    all: Mutex<BTreeMap<Namespace, Here<D>>>,
}

/// Those of a namespace.
struct Here<D> {
    by_id: BTreeMap<String, Kept<D>>,
    /// Of all of them together.
    bytes: usize,
}

struct Kept<D> {
    document: Arc<D>,
    /// As it is written.
    bytes: usize,
}

impl<D> Default for Here<D> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), bytes: 0 }
    }
}

impl<D: Document> Here<D> {
    fn put(&mut self, document: Arc<D>, bytes: usize) {
        self.bytes += bytes;
        let before = self.by_id.insert(document.id().to_owned(), Kept { document, bytes });
        self.bytes -= before.map_or(0, |before| before.bytes);
    }

    fn remove(&mut self, id: &str) -> Option<Arc<D>> {
        let kept = self.by_id.remove(id)?;
        self.bytes -= kept.bytes;
        Some(kept.document)
    }

    /// What there would be if the document of this id had so many bytes.
    fn bytes_with(&self, id: &str, bytes: usize) -> usize {
        self.bytes + bytes - self.by_id.get(id).map_or(0, |kept| kept.bytes)
    }
}

impl<D> fmt::Debug for Documents<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<D: Document> Documents<D> {
    /// Reads `<folder>/<namespace>/<kind>/<id>.json` of all namespaces.
    pub fn open(folder: &Path, kind: &'static str, durability: Durability) -> Result<Self, StoreError> {
        let files = Files::new(folder, kind, durability);
        let mut all: BTreeMap<Namespace, Here<D>> = BTreeMap::new();
        for namespace in files.namespaces()? {
            let Ok(parsed) = Namespace::from_str(&namespace) else { continue };
            for (path, id) in files.of(&namespace)? {
                match read::<D>(&path) {
                    Ok((document, bytes)) if document.id() == id => {
                        all.entry(parsed.clone()).or_default().put(Arc::new(document), bytes);
                    }
                    Ok(_) => set_aside(&path, "it has another's id"),
                    Err(error) => set_aside(&path, &error.to_string()),
                }
            }
        }
        Ok(Self { files, all: Mutex::new(all) })
    }

    /// Keeps one, new or not, as it is.
    pub fn put(&self, namespace: &Namespace, document: D) -> Result<(), Error> {
        let mut writer = self.files.writer();
        let text = self.encode(namespace, &document)?;
        writer.write(namespace, document.id(), &text)?;
        self.lock().entry(namespace.clone()).or_default().put(Arc::new(document), text.len());
        Ok(())
    }

    /// The one called `id`.
    pub fn get(&self, namespace: &Namespace, id: &str) -> Result<Arc<D>, Error> {
        self.find(namespace, id).ok_or_else(|| unknown::<D>(id))
    }

    /// The one called `id`, if there is one.
    pub fn find(&self, namespace: &Namespace, id: &str) -> Option<Arc<D>> {
        let all = self.lock();
        Some(all.get(namespace)?.by_id.get(id)?.document.clone())
    }

    /// Everything, by namespace and id.
    pub fn all(&self) -> Vec<(Namespace, D)> {
        let all = self.lock();
        let documents =
            |here: &Here<D>| here.by_id.values().map(|kept| (*kept.document).clone()).collect::<Vec<_>>();
        all.iter()
            .flat_map(|(name, here)| documents(here).into_iter().map(|one| (name.clone(), one)))
            .collect()
    }

    /// Forgets the one called `id`.
    pub fn delete(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        let mut writer = self.files.writer();
        self.get(namespace, id)?;
        writer.remove(namespace, id)?;
        let mut all = self.lock();
        all.get_mut(namespace).and_then(|here| here.remove(id)).map(drop).ok_or_else(|| unknown::<D>(id))
    }

    /// Forgets the one called `id`, if there is one.
    pub fn remove(&self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        match self.delete(namespace, id) {
            Err(Error::UnknownRecord { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether nobody is writing.
    #[cfg(test)]
    pub fn files_are_free(&self) -> bool {
        self.files.are_free()
    }

    fn encode(&self, namespace: &Namespace, document: &D) -> Result<Vec<u8>, Error> {
        let failed = |error: serde_json::Error| {
            let path = self.files.path(namespace, document.id());
            StoreError::of("encode", &path)(error.into())
        };
        let text = serde_json::to_vec(document).map_err(failed)?;
        match text.len() > MAX_BYTES {
            true => Err(Error::TooLarge { what: "the record", limit: MAX_BYTES }),
            false => Ok(text),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Namespace, Here<D>>> {
        // A panic between the file and the map would leave the older document in the map, which is a state too.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Record> Documents<D> {
    /// Keeps a new one.
    pub fn create(&self, namespace: &Namespace, mut document: D) -> Result<Arc<D>, Error> {
        let mut writer = self.files.writer();
        let id = document.id();
        if self.find(namespace, id).is_some() {
            return Err(Error::RecordExists { what: D::WHAT, id: id.to_owned() });
        }
        document.created(SystemTime::now());
        self.keep(&mut writer, namespace, document)
    }

    /// Takes over the fields at `paths`; all that may change when there is none.
    pub fn update(&self, namespace: &Namespace, from: &D, paths: &[String]) -> Result<Arc<D>, Error> {
        let whole = paths.is_empty();
        let paths = fields::parse(paths, D::ALL)?;
        let mut writer = self.files.writer();
        let mut document = D::clone(&*self.get(namespace, from.id())?);
        if whole {
            document.check_whole(from)?;
        }
        for path in paths {
            document.take(from, path)?;
        }
        document.updated(SystemTime::now());
        self.keep(&mut writer, namespace, document)
    }

    /// Those that match any of `filters`, by id.
    pub fn list(&self, namespace: &Namespace, filters: &[String]) -> Result<Vec<Arc<D>>, Error> {
        let filters = Filters::parse(filters)?;
        let here: Vec<_> = match self.lock().get(namespace) {
            Some(here) => here.by_id.values().map(|kept| kept.document.clone()).collect(),
            None => Vec::new(),
        };
        Ok(here.into_iter().filter(|document| filters.match_any(&**document)).collect())
    }

    /// Writes one down, where there is room for it.
    fn keep(&self, writer: &mut Writer<'_>, namespace: &Namespace, document: D) -> Result<Arc<D>, Error> {
        let text = self.encode(namespace, &document)?;
        let id = document.id();
        if let Some(here) = self.lock().get(namespace) {
            if here.by_id.len() >= MAX_RECORDS && !here.by_id.contains_key(id) {
                return Err(full::<D>(namespace, format!("{MAX_RECORDS} records")));
            }
            // One that becomes smaller is always taken.
            let bytes = here.bytes_with(id, text.len());
            if bytes > MAX_BYTES_IN_NAMESPACE && bytes > here.bytes {
                return Err(full::<D>(namespace, format!("{} MiB", MAX_BYTES_IN_NAMESPACE >> 20)));
            }
        }
        writer.write(namespace, id, &text)?;
        let document = Arc::new(document);
        self.lock().entry(namespace.clone()).or_default().put(document.clone(), text.len());
        Ok(document)
    }
}

fn full<D: Document>(namespace: &Namespace, limit: String) -> Error {
    Error::StoreFull { what: D::WHAT, namespace: namespace.clone(), limit }
}

fn unknown<D: Document>(id: &str) -> Error {
    Error::UnknownRecord { what: D::WHAT, id: id.to_owned() }
}

/// A document, and how many bytes it has.
fn read<D: DeserializeOwned>(path: &Path) -> io::Result<(D, usize)> {
    let text = fs::read(path)?;
    Ok((serde_json::from_slice(&text)?, text.len()))
}

fn set_aside(path: &Path, why: &str) {
    warn!(path = %path.display(), why, "a record is set aside");
    if let Err(error) = fs::rename(path, path.with_extension("broken")) {
        warn!(path = %path.display(), %error, "it could not be renamed");
    }
}
