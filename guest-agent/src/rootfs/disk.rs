//! The sandbox's disks: found by slot, recognised by serial number, mounted once.
//!
//! A slot may be filled while the guest runs. The disk's new size reaches the guest a moment after the host has set it,
//! so an empty or unexpected slot is looked at again for a while.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tokio::time::{Instant, sleep};

use super::{Attempt, Result, RootfsError, make_folder};

/// How long a slot may take to show what the host has put there.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);

/// A disk, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSpec {
    /// 0 is the first.
    pub slot: u32,
    /// `erofs` or `ext4`.
    pub fs_type: String,
    /// What it must report; empty: anything.
    pub serial: String,
    /// How large it must be; 0: anything but empty.
    pub bytes: u64,
}

/// A disk's file system. It is unmounted when the last container lets go of it.
#[derive(Debug)]
pub struct MountedDisk {
    path: PathBuf,
    spec: DiskSpec,
    writable: bool,
    shared: AtomicBool,
}

impl MountedDisk {
    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has been given to more than one container since it was mounted.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        // Not lazily: a writable disk has to be clean on the host when this is through.
        if let Err(error) = umount2(&self.path, MntFlags::empty()) {
            tracing::warn!(disk = self.spec.slot, %error, "unmounting a disk only once it is no longer busy");
            let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// All disks.
#[derive(Debug)]
pub struct Disks {
    /// `/dev`, or a folder that stands in for it.
    dev: PathBuf,
    /// `/sys/block`, or a folder that stands in for it.
    sys: PathBuf,
    /// Where disks are mounted.
    folder: PathBuf,
    mounted: Mutex<HashMap<u32, Weak<MountedDisk>>>,
}

impl Disks {
    /// Disks whose nodes are in `dev` and whose properties are in `sys`, mounted in `folder`.
    pub fn new(dev: PathBuf, sys: PathBuf, folder: PathBuf) -> Self {
        Self { dev, sys, folder, mounted: Mutex::default() }
    }

    /// Mounts a disk, or shares it if it is mounted.
    pub async fn mount(&self, spec: &DiskSpec, writable: bool) -> Result<Arc<MountedDisk>> {
        if !matches!(spec.fs_type.as_str(), "erofs" | "ext4") {
            return Err(RootfsError::UnknownType { slot: spec.slot, fs_type: spec.fs_type.clone() });
        }
        if writable && spec.fs_type == "erofs" {
            return Err(RootfsError::DiskInUse { slot: spec.slot, reason: "erofs cannot be written" });
        }
        let name = name(spec.slot);
        self.expect(spec, &name).await?;
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = mounted.get(&spec.slot).and_then(Weak::upgrade) {
            return match (disk.spec == *spec, disk.writable == writable) {
                (true, true) => {
                    disk.shared.store(true, Ordering::Relaxed);
                    Ok(disk)
                }
                (false, _) => Err(RootfsError::DiskInUse { slot: spec.slot, reason: "it was another disk" }),
                (_, false) => {
                    Err(RootfsError::DiskInUse { slot: spec.slot, reason: "once written, once not" })
                }
            };
        }
        let path = self.folder.join(spec.slot.to_string());
        make_folder(&path)?;
        let (flags, options) = match writable {
            // What is deleted goes back to the host, whose file is as large as the disk has ever been otherwise.
            true => (MsFlags::MS_NOATIME, "discard"),
            // A read-only ext4 that was not unmounted cleanly would otherwise want to replay its journal.
            false if spec.fs_type == "ext4" => (MsFlags::MS_RDONLY, "noload"),
            false => (MsFlags::MS_RDONLY, ""),
        };
        let device = self.dev.join(&name);
        let mounted_now = mount(Some(&device), &path, Some(spec.fs_type.as_str()), flags, Some(options));
        match mounted_now {
            // EROFS has nothing to recover: memory apart, what does not mount is not what was written.
            Err(errno) if spec.fs_type == "erofs" && errno != Errno::ENOMEM => {
                return Err(RootfsError::DamagedImage { device, slot: spec.slot, source: errno.into() });
            }
            other => other.attempt(|| format!("mount {} as {}", device.display(), spec.fs_type))?,
        }
        let disk =
            Arc::new(MountedDisk { path, spec: spec.clone(), writable, shared: AtomicBool::new(false) });
        mounted.insert(spec.slot, Arc::downgrade(&disk));
        Ok(disk)
    }

    /// Waits until the slot holds the disk.
    async fn expect(&self, spec: &DiskSpec, name: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let read = |file| fs::read_to_string(self.sys.join(name).join(file)).unwrap_or_default();
            let size = read("size").trim().parse::<u64>().unwrap_or(0) * 512;
            let found = read("serial").trim().to_owned();
            let large_enough = size > 0 && (spec.bytes == 0 || spec.bytes == size);
            if large_enough && (spec.serial.is_empty() || spec.serial == found) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (name, expected, bytes) = (name.to_owned(), spec.serial.clone(), spec.bytes);
                return Err(RootfsError::WrongDisk { slot: spec.slot, name, size, found, expected, bytes });
            }
            sleep(STEP).await;
        }
    }
}

/// The kernel's name of a disk: vda to vdz, then vdaa and so on.
fn name(slot: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = u64::from(slot) + 1;
    while rest > 0 {
        letters.push(b'a' + ((rest - 1) % 26) as u8);
        rest = (rest - 1) / 26;
    }
    letters.reverse();
    format!("vd{}", String::from_utf8_lossy(&letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_as_the_kernel_names_them() {
        for (slot, expected) in
            [(0, "vda"), (25, "vdz"), (26, "vdaa"), (27, "vdab"), (701, "vdzz"), (702, "vdaaa")]
        {
            assert_eq!(name(slot), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_with_another_serial_number_or_size_is_not_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path().join("vda");
        fs::create_dir(&sys).unwrap();
        fs::write(sys.join("size"), "8\n").unwrap();
        fs::write(sys.join("serial"), "other").unwrap();
        let disks = Disks::new(folder.path().into(), folder.path().into(), folder.path().join("mounts"));
        for (serial, bytes) in [("mine", 0), ("mine", 4096), ("other", 8192)] {
            let spec = DiskSpec { slot: 0, fs_type: "erofs".into(), serial: serial.into(), bytes };
            let error = disks.mount(&spec, false).await.unwrap_err();
            assert!(matches!(error, RootfsError::WrongDisk { size: 4096, .. }), "{error}");
        }
    }
}
