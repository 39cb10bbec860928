//! The mounts of a Create, as layers of a root file system.
//!
//! ```text
//!   erofs, erofs, …   read-only images, topmost first   ─▶ lowers
//!   ext4              one writable image, at the end     ─▶ upper
//!   bind, or none     a folder                           ─▶ an EROFS image made of it, the only lower
//! ```

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::oneshot;

use super::scratch;
use crate::agent::GuestDisk;
use crate::sandbox::slots::Placed;
use crate::vmm::DiskFile;
use crate::vmm::disk::DiskError;

/// Why a root file system cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// An image is no disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A kind of mount that a guest cannot have.
    #[error(
        "a root file system of type {kind:?} (source {origin:?}) is not supported: use erofs images, an ext4 image or a folder"
    )]
    UnknownType {
        /// The mount's type.
        kind: String,
        /// The mount's source.
        origin: String,
    },
    /// The mounts do not fit together.
    #[error("the root file system's mounts do not fit together: {0}")]
    Order(&'static str),
    /// The root folder is not there.
    #[error("the root file system {} is no folder", .0.display())]
    NoFolder(PathBuf),
    /// No file for the image.
    #[error("failed to make a file for the image of {}", folder.display())]
    Scratch {
        /// The root folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder could not be turned into an image.
    #[error("failed to make an image of {} in {}: {why}", folder.display(), scratch.display())]
    Image {
        /// The root folder.
        folder: PathBuf,
        /// Where the image was to be.
        scratch: PathBuf,
        /// What went wrong.
        why: String,
    },
}

/// A mount as containerd passes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootfsMount {
    /// The file system.
    pub kind: String,
    /// An image or a folder.
    pub source: String,
    /// As for mount(8).
    pub options: Vec<String>,
}

/// A layer before it has a disk slot.
#[derive(Debug)]
pub enum Layer {
    /// A read-only EROFS image.
    Image(DiskFile),
    /// The writable ext4 image.
    Writable(DiskFile),
    /// A folder to make an image of.
    Folder(PathBuf),
}

/// A layer with its disk slot.
#[derive(Debug)]
pub enum PlacedLayer {
    /// A read-only EROFS image.
    Image(Placed),
    /// The writable ext4 image.
    Writable(Placed),
    /// A folder to make an image of, for this slot.
    Folder(PathBuf, GuestDisk),
}

impl PlacedLayer {
    /// The disk that the guest will see.
    pub fn disk(&self) -> &GuestDisk {
        match self {
            Self::Image(placed) | Self::Writable(placed) => &placed.disk,
            Self::Folder(_, disk) => disk,
        }
    }
}

/// Opens what the mounts name; without mounts, `folder` is the root.
pub fn layers(mounts: &[RootfsMount], folder: PathBuf) -> Result<Vec<Layer>, RootfsError> {
    if mounts.is_empty() {
        return Ok(vec![Layer::Folder(existing(folder)?)]);
    }
    let mut layers = Vec::with_capacity(mounts.len());
    for mount in mounts {
        if matches!(layers.last(), Some(Layer::Writable(_))) {
            return Err(RootfsError::Order("the writable ext4 image comes last, and once"));
        }
        let path = Path::new(&mount.source);
        layers.push(match mount.kind.as_str() {
            "erofs" => Layer::Image(DiskFile::open(path, true)?),
            "ext4" if mount.options.iter().any(|option| option == "ro") => {
                return Err(RootfsError::Order("a read-only ext4 image cannot take the container's writes"));
            }
            "ext4" => Layer::Writable(DiskFile::open(path, false)?),
            "bind" | "rbind" | "none" | "" => Layer::Folder(existing(path.to_owned())?),
            _ => {
                let (kind, origin) = (mount.kind.clone(), mount.source.clone());
                return Err(RootfsError::UnknownType { kind, origin });
            }
        });
    }
    let folders = layers.iter().filter(|layer| matches!(layer, Layer::Folder(_))).count();
    let images = layers.iter().filter(|layer| matches!(layer, Layer::Image(_))).count();
    match (images, folders) {
        (0, 0) => Err(RootfsError::Order("the ext4 image has no erofs image or folder below it")),
        (0, 1) | (_, 0) => Ok(layers),
        _ => Err(RootfsError::Order("a folder is the only layer below the writable image")),
    }
}

fn existing(folder: PathBuf) -> Result<PathBuf, RootfsError> {
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(RootfsError::NoFolder(folder)),
    }
}

/// Makes an image of `folder` on a thread of its own and answers it as a disk. The image is in the folder `scratch`, has no
/// name and goes with its last descriptor.
pub async fn image_of(folder: &Path, scratch: &Path) -> Result<DiskFile, RootfsError> {
    let (done, answer) = oneshot::channel();
    let paths = (folder.to_owned(), scratch.to_owned());
    let worker = move || drop(done.send(write_image(&paths.0, &paths.1)));
    let thread = thread::Builder::new().name("rootfs-image".into()).spawn(worker);
    let failed = |source| RootfsError::Scratch { folder: folder.to_owned(), source };
    thread.map_err(failed)?;
    match answer.await {
        Ok(image) => DiskFile::private(image?).map_err(failed),
        Err(_) => Err(not_made(folder, scratch, "its thread failed".into())),
    }
}

fn write_image(folder: &Path, scratch: &Path) -> Result<File, RootfsError> {
    let image = scratch::file(scratch)
        .map_err(|source| RootfsError::Scratch { folder: folder.to_owned(), source })?;
    theca_image::erofs::write_folder(folder, &image)
        .map_err(|error| not_made(folder, scratch, chain(&error)))?;
    Ok(image)
}

fn not_made(folder: &Path, scratch: &Path, why: String) -> RootfsError {
    RootfsError::Image { folder: folder.to_owned(), scratch: scratch.to_owned(), why }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Images(tempfile::TempDir);

    impl Images {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["top", "base", "disk"] {
                std::fs::write(folder.path().join(name), [0; 512]).unwrap();
            }
            std::fs::create_dir(folder.path().join("rootfs")).unwrap();
            Self(folder)
        }

        fn mounts(&self, mounts: &[(&str, &str)]) -> Result<Vec<Layer>, RootfsError> {
            let mount = |(kind, name): &(&str, &str)| RootfsMount {
                kind: (*kind).into(),
                source: self.0.path().join(name).display().to_string(),
                options: Vec::new(),
            };
            layers(&mounts.iter().map(mount).collect::<Vec<_>>(), self.0.path().join("rootfs"))
        }
    }

    #[test]
    fn images_below_one_writable_disk_are_a_root() {
        let images = Images::new();
        let layers = images.mounts(&[("erofs", "top"), ("erofs", "base"), ("ext4", "disk")]).unwrap();
        assert!(matches!(layers[..], [Layer::Image(_), Layer::Image(_), Layer::Writable(_)]));
    }

    #[test]
    fn without_mounts_the_bundles_folder_is_the_root() {
        let layers = Images::new().mounts(&[]).unwrap();
        assert!(matches!(&layers[..], [Layer::Folder(path)] if path.ends_with("rootfs")));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let images = Images::new();
        for mounts in [
            &[("ext4", "disk")][..],
            &[("ext4", "disk"), ("erofs", "top")],
            &[("erofs", "top"), ("bind", "rootfs")],
            &[("erofs", "top"), ("ext4", "disk"), ("ext4", "base")],
        ] {
            assert!(matches!(images.mounts(mounts), Err(RootfsError::Order(_))), "{mounts:?}");
        }
        assert!(matches!(images.mounts(&[("bind", "none")]), Err(RootfsError::NoFolder(_))));
        let error = images.mounts(&[("overlay", "overlay")]).unwrap_err().to_string();
        assert!(error.starts_with("a root file system of type \"overlay\""), "{error}");
    }
}
