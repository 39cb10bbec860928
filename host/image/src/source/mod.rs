//! Where images come from: an OCI layout or a docker-archive, as a folder or as a tar file.
//!
//! A source is a set of named [`Files`]; the two formats are two ways of finding images among them. Registry pulls put
//! their blobs in a folder and go the OCI way from there. Documents are small and read whole; layers are streamed by
//! the caller, who verifies them by what the [`Description`] expects.

mod archive;
mod docker;
mod folder;
mod layout;
mod manifest;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::ImageConfiguration;
use thiserror::Error;

use crate::digest::{Digest, DigestError, chain_id};
use crate::layer::Expected;
use crate::limits::{DOCUMENT_MAX, Limits};
use crate::reference::{Reference, ReferenceError};
use crate::tar::TarError;

pub use manifest::{Descriptor, Document, architecture};

/// Why a source gives no image.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file of the source could not be read.
    #[error("failed to read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The archive around the image is unusable.
    #[error("failed to read {path} as a tar archive")]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        source: TarError,
    },
    /// Neither format.
    #[error("{0} is no image: it has neither index.json (OCI layout) nor manifest.json (docker-archive)")]
    NotAnImage(PathBuf),
    /// The image names a file that the source lacks.
    #[error("the image lacks {0}")]
    Missing(String),
    /// A document that is no document.
    #[error("failed to parse {what}")]
    Json {
        /// Which document.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A document that cannot be right.
    #[error("{what} {problem}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A digest that cannot be verified.
    #[error("{what} names a bad digest")]
    Digest {
        /// In which document.
        what: String,
        /// Why.
        source: DigestError,
    },
    /// Not the bytes that were named.
    #[error("{what} has digest {found} instead of {expected}")]
    Mismatch {
        /// Which file.
        what: String,
        /// As named.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// A document, archive or set of layers beyond every bound.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// Which.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// No image for this machine.
    #[error("the image is for {found}; this machine runs linux/{}", architecture())]
    Platform {
        /// What there is.
        found: String,
    },
    /// A malformed name in the source.
    #[error(transparent)]
    Name(#[from] ReferenceError),
}

/// One layer of a described image.
#[derive(Clone, Debug)]
pub struct LayerBlob {
    /// The source's file that holds it.
    pub file: String,
    /// What it must turn out to be.
    pub expected: Expected,
}

/// An image in a source: everything but the layers' bytes, verified as far as that goes.
#[derive(Clone, Debug)]
pub struct Description {
    /// Names that the source gives it.
    pub names: Vec<Reference>,
    /// The manifest as found, if it has one with a digest.
    pub manifest: Option<(Digest, Vec<u8>)>,
    /// Digest of the configuration: the image's id.
    pub id: Digest,
    /// The configuration as found.
    pub configuration_json: Vec<u8>,
    /// The configuration, parsed.
    pub configuration: ImageConfiguration,
    /// Layers, lowest first, as many as the configuration has diff ids.
    pub layers: Vec<LayerBlob>,
}

impl Description {
    /// Names what the layers give together.
    pub fn chain(&self) -> Digest {
        let diff_ids: Vec<Digest> = self.layers.iter().map(|layer| layer.expected.diff_id).collect();
        chain_id(&diff_ids)
    }
}

/// A readable file of a source.
pub struct Opened<'a> {
    /// Length in bytes.
    pub size: u64,
    /// Its bytes.
    pub data: Box<dyn Read + 'a>,
}

/// Files by relative path.
pub trait Files {
    /// Opens a file; `None` if there is no such file.
    fn open(&self, path: &str) -> Result<Option<Opened<'_>>, SourceError>;

    /// Opens a file that has to be there.
    fn require(&self, path: &str) -> Result<Opened<'_>, SourceError> {
        self.open(path)?.ok_or_else(|| SourceError::Missing(path.to_owned()))
    }

    /// Reads a small file whole.
    fn document(&self, path: &str) -> Result<Vec<u8>, SourceError> {
        let opened = self.require(path)?;
        let mut bytes = Vec::new();
        let mut bounded = opened.data.take(DOCUMENT_MAX + 1);
        bounded
            .read_to_end(&mut bytes)
            .map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(SourceError::TooLarge { what: path.to_owned(), limit: DOCUMENT_MAX });
        }
        Ok(bytes)
    }
}

/// Opens a folder or a tar file, which may be compressed or a pipe. `scratch` takes what cannot be read in place.
pub fn open(path: &Path, scratch: &Path, limits: &Limits) -> Result<Box<dyn Files>, SourceError> {
    if path.is_dir() {
        Ok(Box::new(folder::FolderFiles::open(path)?))
    } else {
        Ok(Box::new(archive::ArchiveFiles::open(path, scratch, limits)?))
    }
}

/// Finds the images for this machine in a source; `path` is for messages.
pub fn images(files: &dyn Files, path: &Path, limits: &Limits) -> Result<Vec<Description>, SourceError> {
    if files.open("index.json")?.is_some() {
        layout::images(files, limits)
    } else if files.open("manifest.json")?.is_some() {
        docker::images(files, limits)
    } else {
        Err(SourceError::NotAnImage(path.to_owned()))
    }
}

/// Describes the image of a manifest whose blobs lie where an OCI layout has them.
pub fn describe(
    files: &dyn Files,
    manifest: Digest,
    names: Vec<Reference>,
    limits: &Limits,
) -> Result<Description, SourceError> {
    layout::describe(files, manifest, names, limits)
}

/// Parses and checks a configuration: for Linux and this machine, with diff ids that can be verified.
fn parse_configuration(
    json: &[u8],
    limits: &Limits,
) -> Result<(ImageConfiguration, Vec<Digest>), SourceError> {
    const WHAT: &str = "the image's configuration";
    let configuration: ImageConfiguration =
        serde_json::from_slice(json).map_err(|source| SourceError::Json { what: WHAT.into(), source })?;
    let platform = format!("{}/{}", configuration.os(), configuration.architecture());
    if platform != format!("linux/{}", architecture()) {
        return Err(SourceError::Platform { found: platform });
    }
    let diff_ids = configuration.rootfs().diff_ids();
    if diff_ids.len() > limits.layers {
        let what = "the number of layers".to_owned();
        return Err(SourceError::TooLarge { what, limit: limits.layers as u64 });
    }
    let diff_ids: Result<_, _> = diff_ids.iter().map(|text| text.parse()).collect();
    let diff_ids = diff_ids.map_err(|source| SourceError::Digest { what: WHAT.into(), source })?;
    Ok((configuration, diff_ids))
}

/// Pairs layers with diff ids; there must be as many of both.
fn pair(
    blobs: Vec<(String, Option<(Digest, u64)>)>,
    diff_ids: &[Digest],
) -> Result<Vec<LayerBlob>, SourceError> {
    if blobs.len() != diff_ids.len() {
        return Err(SourceError::Document {
            what: "the image's manifest".into(),
            problem: format!("has {} layers, its configuration has {}", blobs.len(), diff_ids.len()),
        });
    }
    let pairs = blobs.into_iter().zip(diff_ids);
    Ok(pairs
        .map(|((file, blob), diff_id)| LayerBlob { file, expected: Expected { diff_id: *diff_id, blob } })
        .collect())
}
