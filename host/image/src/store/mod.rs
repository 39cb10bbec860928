//! The image store: one EROFS disk per set of layers, and an index of names.
//!
//! ```text
//!  <root>/images/
//!    lock                 flock: held while the index changes, and only then
//!    index.json           the truth: ids, names, chains; replaced atomically
//!    erofs/<chain>.erofs  disks, shared by all images with these layers
//!    blobs/<digest>.json  manifests and configurations as they came
//!    tmp/<n>/             work in progress; its worker holds a flock on the folder
//! ```
//!
//! Files are published before the index names them and removed after it forgot them, so a kill at any moment leaves
//! only files that the index does not name, and folders in `tmp` that nobody locks. Every operation that writes sweeps
//! both first. Readers take no lock.

mod convert;
mod index;
mod remove;
mod resolve;
mod staging;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::digest::Digest;
use crate::erofs::WriteError;
use crate::layer::LayerError;
use crate::limits::Limits;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::source::{self, SourceError};
use crate::{Config, ImageConfiguration};

pub(crate) use convert::Work;
use index::Index;
pub(crate) use staging::Staging;

pub use remove::{Removal, RemoveOptions};

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or folder of the store.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The disk is full.
    #[error("no space left on the disk of {root}; nothing of the image was kept")]
    DiskFull {
        /// The store.
        root: PathBuf,
        /// The write that failed.
        source: Box<StoreError>,
    },
    /// The index or a document in the store does not parse.
    #[error("{path} is damaged")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The index was written by a later Theca.
    #[error("the store has version {found}, this program knows version {known}")]
    Version {
        /// In the index.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The source holds no usable image.
    #[error("failed to read the image")]
    Source(#[from] SourceError),
    /// A layer was refused.
    #[error("failed to unpack layer {number} of {count}")]
    Layer {
        /// Counting from 1, lowest first.
        number: usize,
        /// Of the image.
        count: usize,
        /// Why.
        source: LayerError,
    },
    /// The disk could not be written.
    #[error("failed to write the image's disk")]
    Write(#[from] WriteError),
    /// One name was given for several images.
    #[error("the archive has {count} images: import it without a name of your own")]
    SeveralImages {
        /// How many.
        count: usize,
    },
    /// Nothing of that name or id.
    #[error("no image {0:?} in the store; `theca image ls` lists them, `theca image pull` gets more")]
    NotFound(String),
    /// The short id fits several.
    #[error("{id:?} could be {}", candidates.join(" or "))]
    Ambiguous {
        /// As asked for.
        id: String,
        /// Ids that start so.
        candidates: Vec<String>,
    },
    /// Containers need the image.
    #[error("image {image} is used by {}; remove them first, or force it", users.join(", "))]
    InUse {
        /// As asked for.
        image: String,
        /// Containers.
        users: Vec<String>,
    },
    /// An id that several names share.
    #[error("image {image} has several names: {}; remove them by name, or force it", names.join(", "))]
    SeveralNames {
        /// As asked for.
        image: String,
        /// All of them.
        names: Vec<String>,
    },
    /// The registry.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
}

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A name in place of those in the archive, which then must hold a single image.
    pub name: Option<Reference>,
    /// Bounds.
    pub limits: Limits,
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    /// Names, sorted.
    pub names: Vec<Reference>,
    /// Names by digest that a registry knows it by.
    pub digests: Vec<Reference>,
    /// Digest of the manifest, if it came with one.
    pub manifest: Option<Digest>,
    /// When it came into the store, in seconds since 1970.
    pub imported: u64,
    /// Bytes of the disk.
    pub size: u64,
    /// The read-only disk with the root file system.
    pub erofs: PathBuf,
    /// The configuration: platform, history, and how to run it.
    pub configuration: ImageConfiguration,
}

impl Image {
    /// How to run it: environment, command, user and so on. Absent in images that say nothing of it.
    pub fn config(&self) -> Option<&Config> {
        self.configuration.config().as_ref()
    }

    /// The first twelve digits of the id, as lists show it.
    pub fn short_id(&self) -> String {
        self.id.hex()[..12].to_owned()
    }
}

/// The images of one root folder. Cheap to open; several processes may have it open at once.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the store in `<root>/images`, making it if needed.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { folder: root.join("images") };
        for folder in [store.folder.clone(), store.disks(), store.blobs(), store.staging()] {
            make_private_folder(&folder).map_err(io_error("make", &folder))?;
        }
        Ok(store)
    }

    /// Imports all images for this machine from an OCI layout or docker-archive. What is already there is not unpacked
    /// again. After an error nothing of the image that failed is left; images before it in the archive stay.
    pub fn import(
        &self,
        path: &Path,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, StoreError> {
        self.explain(self.import_from(path, options, progress))
    }

    fn import_from(
        &self,
        path: &Path,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, StoreError> {
        let staging = Staging::new(self)?;
        let files = source::open(path, staging.path(), &options.limits)?;
        let mut descriptions = source::images(&*files, path, &options.limits)?;
        if let Some(name) = &options.name {
            let count = descriptions.len();
            let [only] = &mut descriptions[..] else { return Err(StoreError::SeveralImages { count }) };
            only.names = vec![name.clone()];
        }
        let work = Work { staging: &staging, files: &*files, limits: &options.limits, progress };
        descriptions.iter().map(|description| self.admit(&work, description, Vec::new())).collect()
    }

    /// All images, by name, nameless ones last.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let index = Index::read(self)?;
        let mut images =
            index.images.keys().map(|id| self.image(&index, id)).collect::<Result<Vec<_>, _>>()?;
        images.sort_by_cached_key(|image| (image.names.is_empty(), image.names.first().cloned(), image.id));
        Ok(images)
    }

    /// Says "disk full" where that is what lies behind an error, however deep.
    pub(crate) fn explain<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.map_err(|error| {
            let mut causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let full = causes.any(|cause| {
                let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
                matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
            });
            if full {
                StoreError::DiskFull { root: self.folder.clone(), source: Box::new(error) }
            } else {
                error
            }
        })
    }

    fn disks(&self) -> PathBuf {
        self.folder.join("erofs")
    }

    fn disk(&self, chain: &Digest) -> PathBuf {
        self.disks().join(format!("{}.erofs", chain.hex()))
    }

    fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{}.json", digest.hex()))
    }

    fn staging(&self) -> PathBuf {
        self.folder.join("tmp")
    }
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}
