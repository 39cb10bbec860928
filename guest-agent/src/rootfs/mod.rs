//! Root file systems: read-only disks below one writable layer, joined by overlayfs.
//!
//! ```text
//!   <run>/disks/<slot>                  a disk, mounted once for all containers that name it
//!   <run>/containers/<id>/scratch       the writable layer of a container without a disk for it: a tmpfs
//!   <run>/containers/<id>/rootfs        the joined file system
//!   <run>/containers/<id>/files         what came with the request, to be bound into the container: a tmpfs
//! ```
//!
//! On a writable disk each container has a folder of its own, named after it: a container that is prepared again finds
//! what it wrote. On a disk that containers share, the folder goes with the container's Release.
//!
//! Hard links of a lower disk stay one file when it is written to (`index=on`): the upper then belongs to that lower. Where
//! it has come to another one, as with a folder of the host that was copied anew, the links part at the first write.

mod disk;
mod files;

pub use disk::{DiskSpec, Disks};
pub use files::SuppliedFile;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use self::disk::MountedDisk;

/// What the kernel takes as mount options at most.
const LONGEST_OPTIONS: usize = 4095 - ",index=on".len();

/// Why a root file system could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Nothing to show.
    #[error("a root file system needs a lower disk")]
    NoLower,
    /// A file system that the guest does not use.
    #[error("{fs_type:?} is not a file system for disk {slot}: erofs and ext4 are")]
    UnknownType {
        /// Of the disk.
        slot: u32,
        /// As given.
        fs_type: String,
    },
    /// The slot is empty, or holds another disk, and stayed so.
    #[error(
        "disk {slot} ({name}) is not the expected one: it has {size} bytes and the serial number {found:?}, expected {bytes} (0: any) and {expected:?}"
    )]
    WrongDisk {
        /// Of the disk.
        slot: u32,
        /// Its name in the guest.
        name: String,
        /// 0 for an empty slot.
        size: u64,
        /// What the disk reports.
        found: String,
        /// What it was said to report.
        expected: String,
        /// How large it was said to be.
        bytes: u64,
    },
    /// Another container uses the disk in a way that does not go together with this one.
    #[error("disk {slot} is in use differently: {reason}")]
    DiskInUse {
        /// Of the disk.
        slot: u32,
        /// How.
        reason: &'static str,
    },
    /// Too many layers for one overlay.
    #[error("{count} lower disks are more than overlayfs takes")]
    TooManyLowers {
        /// How many.
        count: usize,
    },
    /// An image's disk is not the EROFS that it was written as.
    #[error("failed to mount {} as erofs", device.display())]
    DamagedImage {
        /// In the guest.
        device: PathBuf,
        /// Of the disk.
        slot: u32,
        /// Why.
        source: io::Error,
    },
    /// The system refused.
    #[error("failed to {action}")]
    Io {
        /// With its operands.
        action: String,
        /// Why.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, RootfsError>;

trait Attempt<T> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| RootfsError::Io { action: action(), source: error.into() })
    }
}

/// What a container's root is made of.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Topmost first.
    pub lowers: Vec<DiskSpec>,
    /// Absent: a tmpfs.
    pub upper: Option<DiskSpec>,
    /// The container cannot write. There is a layer above the disks all the same, for mount points.
    pub read_only: bool,
    /// Bound of the tmpfs in bytes; 0 is half of the guest's memory.
    pub tmpfs_bytes: u64,
}

/// A mounted root. Dropping it unmounts what it can; [`Rootfs::unmount`] also says what went wrong.
#[derive(Debug)]
pub struct Rootfs {
    folder: PathBuf,
    /// Newest last.
    mounts: Vec<PathBuf>,
    disks: Vec<Arc<MountedDisk>>,
    /// Where it writes to on a disk.
    own: Option<PathBuf>,
    /// Sources of the files that came with the request, in their order.
    supplied: Vec<PathBuf>,
    /// See [`Layers::read_only`].
    pub read_only: bool,
}

impl Rootfs {
    /// Mounts the layers of the container `id`, which is a plain file name, below `run`.
    pub async fn mount(run: &Path, id: &str, layers: &Layers, disks: &Disks) -> Result<Self> {
        if layers.lowers.is_empty() {
            return Err(RootfsError::NoLower);
        }
        let folder = run.join("containers").join(id);
        let mut rootfs = Self {
            folder: folder.clone(),
            mounts: Vec::new(),
            disks: Vec::new(),
            own: None,
            supplied: Vec::new(),
            read_only: layers.read_only,
        };
        for lower in &layers.lowers {
            rootfs.disks.push(disks.mount(lower, false).await?);
        }
        let lowers: Vec<PathBuf> = rootfs.disks.iter().map(|disk| disk.path().to_owned()).collect();
        make_folder(&folder)?;
        let writable = match &layers.upper {
            Some(upper) => {
                let disk = disks.mount(upper, true).await?;
                let writable = disk.path().join(id);
                rootfs.own = Some(writable.clone());
                rootfs.disks.push(disk);
                writable
            }
            None => {
                let scratch = folder.join("scratch");
                make_folder(&scratch)?;
                let size = match layers.tmpfs_bytes {
                    0 => "mode=755".to_owned(),
                    bytes => format!("mode=755,size={bytes}"),
                };
                rootfs.add_mount("tmpfs", &scratch, "tmpfs", MsFlags::empty(), &size)?;
                scratch
            }
        };
        let (upper, work) = (writable.join("upper"), writable.join("work"));
        make_upper(&upper, &lowers[0])?;
        make_folder(&work)?;
        let joined = rootfs.path();
        make_folder(&joined)?;
        let options = overlay_options(&lowers, &upper, &work)?;
        let with_index = format!("{options},index=on");
        match rootfs.add_mount("overlay", &joined, "overlay", MsFlags::empty(), &with_index) {
            Err(RootfsError::Io { source, .. }) if source.raw_os_error() == Some(libc::ESTALE) => {
                rootfs.add_mount("overlay", &joined, "overlay", MsFlags::empty(), &options)?;
            }
            mounted => mounted?,
        }
        Ok(rootfs)
    }

    /// The joined file system.
    pub fn path(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Unmounts everything. Disks stay mounted while another container uses them.
    pub fn unmount(mut self) -> Result<()> {
        self.undo()
    }

    /// Unmounts everything, and removes what the container wrote to a disk that it shared. That may take a while, in which
    /// others go on.
    pub async fn discard(mut self) -> Result<()> {
        let shared = self.disks.last().filter(|disk| disk.is_shared()).cloned();
        let own = self.own.take();
        self.undo()?;
        let (Some(disk), Some(own)) = (shared, own) else { return Ok(()) };
        let action = format!("remove {}", own.display());
        let removed = tokio::task::spawn_blocking(move || {
            let removed = fs::remove_dir_all(own);
            drop(disk);
            removed
        });
        removed.await.unwrap_or_else(|panic| Err(panic.into())).attempt(|| action)
    }

    fn add_mount(
        &mut self,
        source: &str,
        path: &Path,
        fs_type: &str,
        flags: MsFlags,
        options: &str,
    ) -> Result<()> {
        mount(Some(source), path, Some(fs_type), flags, Some(options))
            .attempt(|| format!("mount {fs_type} at {} with {options}", path.display()))?;
        self.mounts.push(path.to_owned());
        Ok(())
    }

    /// Goes on after a failure and reports the first.
    fn undo(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(path) = self.mounts.pop() {
            let unmounted =
                umount2(&path, MntFlags::MNT_DETACH).attempt(|| format!("unmount {}", path.display()));
            outcome = outcome.and(unmounted);
        }
        if self.folder.as_os_str().is_empty() {
            return outcome;
        }
        // Only mount points are left: a folder that is not empty is still mounted and must not be emptied.
        let points = ["files", "rootfs", "scratch"].map(|name| self.folder.join(name));
        for folder in points.into_iter().chain([self.folder.clone()]) {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    outcome = outcome.and(Err(error).attempt(|| format!("remove {}", folder.display())));
                }
                _ => {}
            }
        }
        self.folder = PathBuf::new();
        self.disks.clear();
        outcome
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            tracing::warn!(error = &error as &dyn std::error::Error, "a root file system was not unmounted");
        }
    }
}

/// The merged root folder takes its owner and mode from the upper, which therefore has to have the lower's.
fn make_upper(upper: &Path, lower: &Path) -> Result<()> {
    if upper.exists() {
        return Ok(());
    }
    make_folder(upper)?;
    let action = || format!("give {} the attributes of the image's root", upper.display());
    let root = fs::metadata(lower).attempt(action)?;
    fs::set_permissions(upper, fs::Permissions::from_mode(root.mode() & 0o7777)).attempt(action)?;
    chown(upper, Some(root.uid()), Some(root.gid())).attempt(action)
}

fn overlay_options(lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<String> {
    let lower = lowers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    if options.len() > LONGEST_OPTIONS {
        return Err(RootfsError::TooManyLowers { count: lowers.len() });
    }
    Ok(options)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .attempt(|| format!("make {}", path.display()))
}
