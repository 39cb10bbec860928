//! A place for a disk, and the disk in it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

use super::config_bytes;
use crate::virtio::ConfigSpace;

/// Bytes of a sector: the unit of every address on the wire, whatever the medium.
pub const SECTOR: u64 = 512;
/// Bytes of a serial number.
const SERIAL: usize = VIRTIO_BLK_ID_BYTES as usize;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The serial number does not fit its field.
    #[error("disk serial {0:?} is not 1 to {SERIAL} printable ASCII bytes or empty")]
    Serial(String),
    /// Its size cannot be found out.
    #[error("failed to find the size of the disk")]
    Size(#[source] io::Error),
}

/// The slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot already has a disk")]
pub struct AttachError;

/// An open file that serves as a disk; whole sectors of it, of the size it has now.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sectors: u64,
    read_only: bool,
    serial: [u8; SERIAL],
}

/// Bytes moved so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// From disk to guest.
    pub read_bytes: AtomicU64,
    /// From guest to disk.
    pub written_bytes: AtomicU64,
}

/// A place for one disk at a time, there at once or later. Clones are the same place.
#[derive(Clone, Debug)]
pub struct Slot {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Mutex<Option<Arc<Disk>>>,
    config: ConfigSpace,
    counters: Counters,
}

impl Disk {
    /// `file` must be open for reading, and for writing unless `read_only`.
    pub fn open(mut file: File, read_only: bool, serial: &str) -> Result<Self, DiskError> {
        let printable = serial.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if serial.len() > SERIAL || !printable {
            return Err(DiskError::Serial(serial.to_owned()));
        }
        let mut padded = [0; SERIAL];
        padded[..serial.len()].copy_from_slice(serial.as_bytes());
        // Unlike the metadata, this works for block devices too.
        let bytes = file.seek(SeekFrom::End(0)).map_err(DiskError::Size)?;
        Ok(Self { file, sectors: bytes / SECTOR, read_only, serial: padded })
    }

    /// Whether the guest may only read.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Size in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn serial(&self) -> &[u8; SERIAL] {
        &self.serial
    }
}

impl Slot {
    /// A slot that gets its disk later.
    pub fn empty() -> Self {
        let (disk, config) = (Mutex::default(), ConfigSpace::new(config_bytes(0)));
        Self { shared: Arc::new(Shared { disk, config, counters: Counters::default() }) }
    }

    /// A slot with its disk.
    pub fn with(disk: Disk) -> Self {
        let config = ConfigSpace::new(config_bytes(disk.sectors));
        let disk = Mutex::new(Some(Arc::new(disk)));
        Self { shared: Arc::new(Shared { disk, config, counters: Counters::default() }) }
    }

    /// Gives an empty slot its disk and tells the guest. Never blocks on the guest or on requests.
    pub fn attach(&self, disk: Disk) -> Result<(), AttachError> {
        let mut place = self.place();
        if place.is_some() {
            return Err(AttachError);
        }
        let capacity = disk.sectors.to_le_bytes();
        *place = Some(Arc::new(disk));
        // Still locked: whoever attaches or detaches next says so after this.
        self.shared.config.update(0, &capacity);
        Ok(())
    }

    /// Takes the disk away and tells the guest. A request that is being served keeps it until it is done.
    pub fn detach(&self) {
        let mut place = self.place();
        if place.take().is_some() {
            self.shared.config.update(0, &0u64.to_le_bytes());
        }
    }

    /// The disk, if there is one.
    pub fn disk(&self) -> Option<Arc<Disk>> {
        self.place().clone()
    }

    fn place(&self) -> MutexGuard<'_, Option<Arc<Disk>>> {
        // Whoever panicked left a disk or none: both are whole.
        self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes moved so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(super) fn config(&self) -> ConfigSpace {
        self.shared.config.clone()
    }
}
