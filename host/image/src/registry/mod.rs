//! Pulls from registries: documents first, then only the layers whose disk is not in the store yet.
//!
//! Nothing of a registry is believed: every blob is read to the size that the manifest gives it and verified by digest,
//! the layers again by diff id when they are unpacked. A download that breaks off goes on where it was.

mod connection;
mod credentials;
mod guard;
mod refusal;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use oci_client::errors::OciDistributionError;
use thiserror::Error;

use crate::digest::Digest;
use crate::limits::Limits;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::source::{self, Descriptor, Document, SourceError};
use crate::store::{Image, Staging, Store, StoreError, Work};

use connection::Connection;
pub use credentials::{Credentials, CredentialsError, Origin};
pub use refusal::Refusal;

/// Layers fetched at the same time.
const PARALLEL_LAYERS: usize = 3;
const INDEX_DEPTH: usize = 4;

/// How to reach a registry.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Who to be; goes before the file.
    pub credentials: Option<Credentials>,
    /// A file in the form of `~/.docker/config.json`. Absent or without this registry: nobody.
    pub auth_file: Option<PathBuf>,
    /// `Some(false)` takes any certificate and, if the registry speaks no TLS, plain HTTP. Without a word that is so
    /// for registries on this machine's loopback, as with Docker.
    pub tls_verify: Option<bool>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

/// Why a pull failed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// Credentials could not be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificates to trust could not be read.
    #[error("failed to read certificates from {path}")]
    CaFile {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No certificates of the system's own.
    #[error("this machine has no CA certificates: install the package ca-certificates")]
    NoCertificates,
    /// The registry cannot be reached, or does not let us in.
    #[error("failed to log in to registry {registry}")]
    Login {
        /// Which.
        registry: String,
        /// Why.
        source: OciDistributionError,
    },
    /// It is there and says no.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// No manifest.
    #[error("failed to get the manifest of {name}")]
    Manifest {
        /// Of what.
        name: String,
        /// Why.
        source: OciDistributionError,
    },
    /// No blob.
    #[error("failed to get blob {digest} of {name}")]
    Blob {
        /// Of what.
        name: String,
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// Other bytes than asked for.
    #[error("registry {registry} sent {what} with digest {found} instead of {expected}")]
    Mismatch {
        /// Who.
        registry: String,
        /// What.
        what: &'static str,
        /// Asked for.
        expected: Digest,
        /// Sent.
        found: Digest,
    },
    /// More than anybody wants.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// As announced.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// No end of an answer.
    #[error(
        "registry {registry} sent more than {} MiB where a short document belongs, and was cut off; it is broken or hostile",
        limit >> 20
    )]
    Flood {
        /// Who.
        registry: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// An answer that takes too long.
    #[error(
        "registry {registry} did not finish a short answer within {limit:?}; try again, or pull from another"
    )]
    Slow {
        /// Who.
        registry: String,
        /// How long it had.
        limit: Duration,
    },
    /// A file could not be written.
    #[error("failed to write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// Blobs on their way into the store, laid out like an OCI layout.
struct Download<'a> {
    connection: Connection,
    folder: &'a Path,
    progress: &'a dyn Progress,
}

impl Store {
    /// Pulls the image of a name for this machine and gives it that name.
    ///
    /// Needs a tokio runtime with time and I/O. Unpacking runs on the calling thread between awaits, and may take
    /// seconds: give it a thread of its own, or a runtime with nothing else to do. Dropping the future, or a `true`
    /// from [`Progress::cancelled`], leaves nothing behind.
    pub async fn pull(
        &self,
        name: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, StoreError> {
        self.explain(self.pull_from(name, options, progress).await)
    }

    async fn pull_from(
        &self,
        name: &Reference,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Image, StoreError> {
        let staging = Staging::new(self)?;
        let blobs = staging.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(|source| RegistryError::Write { path: blobs.clone(), source })?;
        let connection = Connection::open(name, options).await?;
        let download = Download { connection, folder: &blobs, progress };
        let fetched = download.documents(name).await?;
        let files = source::open(staging.path(), staging.path(), &options.limits)?;
        let names = name.tagged().into_iter().collect();
        let description = source::describe(&*files, fetched.manifest, names, &options.limits)?;
        if !self.holds(&staging, &description.chain())? {
            download.layers(&fetched.layers, &options.limits).await?;
        }
        let digests = fetched.digests.iter().map(|digest| name.at(*digest).to_string()).collect();
        let work = Work { staging: &staging, files: &*files, limits: &options.limits, progress };
        self.admit(&work, &description, digests)
    }
}

/// What the documents said.
struct Fetched {
    manifest: Digest,
    /// Digests that name this image in its registry: its manifest's and its index's.
    digests: Vec<Digest>,
    layers: Vec<Descriptor>,
}

impl Download<'_> {
    /// Fetches index, manifest and configuration.
    async fn documents(&self, name: &Reference) -> Result<Fetched, StoreError> {
        let mut digests = Vec::new();
        let mut at = name.digest().copied();
        for _ in 0..INDEX_DEPTH {
            let (digest, json) = self.connection.manifest(at).await?;
            self.keep(&digest, &json)?;
            digests.push(digest);
            match Document::parse(&json, &format!("manifest {digest}"))? {
                Document::Index(entries) => at = Some(Document::choose(&entries)?.digest()?),
                Document::Manifest { config, layers } => {
                    self.blob(&config, crate::limits::DOCUMENT_MAX).await?;
                    return Ok(Fetched { manifest: digest, digests, layers });
                }
            }
        }
        let problem = "leads through too many indexes".to_owned();
        Err(SourceError::Document { what: format!("the index of {}", name.familiar()), problem }.into())
    }

    async fn layers(&self, layers: &[Descriptor], limits: &Limits) -> Result<(), StoreError> {
        let size = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        if size > limits.unpacked_bytes {
            let what = "the set of layers".to_owned();
            return Err(RegistryError::TooLarge { what, size, limit: limits.unpacked_bytes }.into());
        }
        stream::iter(layers)
            .map(|layer| self.blob(layer, limits.unpacked_bytes))
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect()
            .await
    }

    async fn blob(&self, descriptor: &Descriptor, limit: u64) -> Result<(), StoreError> {
        let digest = descriptor.digest()?;
        if descriptor.size > limit {
            let what = format!("blob {digest}");
            return Err(RegistryError::TooLarge { what, size: descriptor.size, limit }.into());
        }
        let path = self.folder.join(digest.hex());
        Ok(self.connection.blob(&digest, descriptor.size, &path, self.progress).await?)
    }

    fn keep(&self, digest: &Digest, json: &[u8]) -> Result<(), RegistryError> {
        let path = self.folder.join(digest.hex());
        fs::write(&path, json).map_err(|source| RegistryError::Write { path, source })
    }
}
