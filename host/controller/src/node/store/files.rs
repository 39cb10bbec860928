//! The files of documents: one each, replaced in one step. What is on the disk stays there through a loss of power, with the folders
//! that it is in.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::Namespace;
use crate::node::error::Error;
use crate::node::private;
#[cfg(any(test, feature = "testing"))]
use crate::node::testing::life::Life;

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

/// `<folder>/<namespace>/<kind>/<id>.json`
pub struct Files {
    folder: PathBuf,
    kind: &'static str,
    durability: Durability,
    /// One writer at a time, so that files change in the order of calls. Namespaces whose folders are known to last.
    lasting: Mutex<BTreeSet<Namespace>>,
    /// Tests end a node's process between two writes.
    #[cfg(any(test, feature = "testing"))]
    life: Option<Arc<Life>>,
}

/// The right to change files. Whoever has it may be waiting for a disk.
pub struct Writer<'a> {
    files: &'a Files,
    lasting: MutexGuard<'a, BTreeSet<Namespace>>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("folder", &self.folder)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Files {
    pub fn new(folder: &Path, kind: &'static str, durability: Durability) -> Self {
        Self {
            folder: folder.to_owned(),
            kind,
            durability,
            lasting: Mutex::default(),
            #[cfg(any(test, feature = "testing"))]
            life: Life::current(),
        }
    }

    /// Names of the namespaces that have some.
    pub fn namespaces(&self) -> Result<Vec<String>, StoreError> {
        names(&self.folder)
    }

    /// Files of a namespace, by path and id.
    pub fn of(&self, namespace: &str) -> Result<Vec<(PathBuf, String)>, StoreError> {
        let folder = self.folder.join(namespace).join(self.kind);
        let ids = names(&folder)?.into_iter().filter_map(|name| {
            let id = name.strip_suffix(".json").filter(|id| !id.starts_with('.'))?;
            Some((folder.join(&name), id.to_owned()))
        });
        Ok(ids.collect())
    }

    /// Waits until nobody else writes.
    pub fn writer(&self) -> Writer<'_> {
        Writer { files: self, lasting: self.lasting.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    #[cfg(test)]
    pub fn are_free(&self) -> bool {
        self.lasting.try_lock().is_ok()
    }

    pub fn path(&self, namespace: &Namespace, id: &str) -> PathBuf {
        self.folder.join(namespace.as_str()).join(self.kind).join(format!("{id}.json"))
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

    /// Makes a namespace's folder. Each level is made to last in the one above it, also where an earlier process has made it
    /// and was killed before it could do so.
    fn make_folder(&self, namespace: &Namespace) -> io::Result<()> {
        let top = self.folder.join(namespace.as_str());
        let levels = [self.folder.clone(), top.clone(), top.join(self.kind)];
        if let Some(above) = self.folder.parent() {
            self.make_above(above)?;
        }
        for level in levels {
            private::make_folder(&level)?;
            self.make_last(&level)?;
        }
        Ok(())
    }

    /// What is above the store is not ours to close.
    fn make_above(&self, folder: &Path) -> io::Result<()> {
        if folder.as_os_str().is_empty() || folder.exists() {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.make_above(above)?;
        }
        match DirBuilder::new().mode(0o755).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.make_last(folder),
        }
    }

    /// Puts the folder that `path` is in on the disk, where documents are to be there.
    fn make_last(&self, path: &Path) -> io::Result<()> {
        if self.durability == Durability::Kernel {
            return Ok(());
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        #[cfg(test)]
        tests::SYNCED.with_borrow_mut(|synced| synced.push(above.to_owned()));
        File::open(above)?.sync_all()
    }
}

impl Writer<'_> {
    /// A reader of the file sees the old or the new document, never half, whenever the machine stops.
    pub fn write(&mut self, namespace: &Namespace, id: &str, text: &[u8]) -> Result<(), Error> {
        let Self { files, lasting } = self;
        let path = files.path(namespace, id);
        // No id begins with a dot.
        let fresh = path.with_file_name(format!(".{id}.new"));
        let mut written = || -> io::Result<()> {
            if !lasting.contains(namespace) {
                files.make_folder(namespace)?;
                lasting.insert(namespace.clone());
            }
            let mut file = match private::fresh_file().open(&fresh) {
                // Somebody has removed it from under us.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    files.make_folder(namespace)?;
                    private::fresh_file().open(&fresh)?
                }
                other => other?,
            };
            file.write_all(text)?;
            if files.durability == Durability::Disk {
                file.sync_all()?;
            }
            fs::rename(&fresh, &path)?;
            files.make_last(&path)
        };
        files.touch(|| Ok(written().map_err(StoreError::of("write", &path))?))
    }

    /// Of one that is not there: nothing.
    pub fn remove(&mut self, namespace: &Namespace, id: &str) -> Result<(), Error> {
        let path = self.files.path(namespace, id);
        self.files.touch(|| {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other.map_err(StoreError::of("remove", &path))?,
            }
            Ok(self.files.make_last(&path).map_err(StoreError::of("sync", &path))?)
        })
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// Folders that this thread has put on the disk.
        pub static SYNCED: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    fn synced(act: impl FnOnce()) -> Vec<PathBuf> {
        SYNCED.take();
        act();
        SYNCED.take()
    }

    #[test]
    fn each_folder_that_the_first_document_of_a_namespace_needs_lasts_as_the_document_does() {
        let root = tempfile::tempdir().unwrap();
        let (lib, folder) = (root.path().join("lib"), root.path().join("lib/thecad"));
        let namespace = "tests".parse().unwrap();
        let files = Files::new(&folder, "sandboxes", Durability::Disk);
        let here = folder.join("tests");
        let first = synced(|| files.writer().write(&namespace, "web", b"{}").unwrap());
        assert_eq!(first, [root.path(), &lib, &folder, &here, &here.join("sandboxes")]);
        let second = synced(|| files.writer().write(&namespace, "db", b"{}").unwrap());
        assert_eq!(second, [here.join("sandboxes")], "the others last by now");
        // Another process was killed between making the folders and having them on the disk.
        let later = Files::new(&folder, "sandboxes", Durability::Disk);
        let third = synced(|| later.writer().write(&namespace, "db", b"{}").unwrap());
        assert_eq!(third, [lib.as_path(), &folder, &here, &here.join("sandboxes")]);
        let kernel = Files::new(&folder, "tasks", Durability::Kernel);
        assert_eq!(
            synced(|| kernel.writer().write(&namespace, "db", b"{}").unwrap()),
            [""; 0].map(PathBuf::from)
        );
    }
}
