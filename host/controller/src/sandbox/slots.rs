//! Which image is in which of the VM's disk slots.
//!
//! A VM has its slots from the start. Before the boot every image makes a slot; at the boot spare ones are added;
//! afterwards images go into those, and leave them with their last container. A read-only image that several containers use
//! takes one slot.

use std::sync::Arc;

use theca_vmm_protocol::MAX_DISKS;

use crate::agent::GuestDisk;
use crate::vmm::DiskFile;
use crate::vmm::disk::DiskError;

/// Empty slots for disks of containers to come.
pub const SPARE_SLOTS: usize = 6;
/// Empty slots of a sandbox for one task whose disks are not known: for a root and what is written to it.
pub const ONE_TASK_SLOTS: usize = 2;

/// There is no slot left.
#[derive(Debug, thiserror::Error)]
#[error(
    "the sandbox has no free disk slot left ({slots} in use): give its containers fewer or shared image layers"
)]
pub struct NoSlot {
    slots: usize,
}

/// Why an image did not get a slot.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// All are taken.
    #[error(transparent)]
    Full(#[from] NoSlot),
    /// Somebody else writes to the image.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Where an image is.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The slot, as the guest knows it.
    pub disk: GuestDisk,
    /// Set when the running VM must still be given the disk.
    pub attach: Option<Arc<DiskFile>>,
}

#[derive(Debug)]
enum Content {
    /// Present in the VM, without a disk.
    Empty,
    /// Taken for an image that the keeper makes itself, for one container.
    Private,
    /// Holds an image, used by so many containers.
    Image { file: Arc<DiskFile>, users: usize },
}

#[derive(Debug)]
struct Slot {
    content: Content,
    /// How many disks were in it before.
    former: u32,
    /// Empty when the VM began. A slot that had a disk then was shown to the guest as what that disk was, read-only or
    /// not, and keeps it.
    changes: bool,
}

/// The table of slots.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    booted: bool,
}

impl Slots {
    /// Takes note of an image that the first task will use.
    pub fn announce(&mut self, file: DiskFile) -> Result<(), PlaceError> {
        let placed = self.place(file)?;
        // Before the boot nothing leaves its slot.
        let _ = self.release(&placed.disk);
        Ok(())
    }

    /// Finds or makes a place for `file` and counts its user.
    pub fn place(&mut self, file: DiskFile) -> Result<Placed, PlaceError> {
        let known = self.slots.iter_mut().position(
            |slot| matches!(&slot.content, Content::Image { file: held, .. } if held.id() == file.id()),
        );
        if let Some(number) = known {
            let disk = self.guest_disk(number, file.bytes());
            if let Content::Image { file: held, users } = &mut self.slots[number].content
                && held.read_only() == file.read_only()
                && (held.read_only() || *users == 0)
            {
                *users += 1;
                return Ok(Placed { disk, attach: None });
            }
            return Err(DiskError::InUse(file.path().to_owned()).into());
        }
        if !file.read_only() {
            file.lock()?;
        }
        let number = self.free_slot()?;
        let disk = self.guest_disk(number, file.bytes());
        let file = Arc::new(file);
        let attach = self.booted.then(|| file.clone());
        self.slots[number].content = Content::Image { file, users: 1 };
        Ok(Placed { disk, attach })
    }

    /// A slot for an image that does not exist yet, and whose size is still unknown.
    pub fn place_private(&mut self) -> Result<GuestDisk, NoSlot> {
        let number = self.free_slot()?;
        self.slots[number].content = Content::Private;
        Ok(self.guest_disk(number, 0))
    }

    /// One user less. Answers whether the disk must now be taken out of the VM, so that its slot can get another.
    #[must_use]
    pub fn release(&mut self, disk: &GuestDisk) -> bool {
        let booted = self.booted;
        let Some(slot) = self.slots.get_mut(usize::from(disk.slot)) else { return false };
        if let Content::Image { users, .. } = &mut slot.content {
            *users = users.saturating_sub(1);
            if *users > 0 {
                return false;
            }
        }
        if !booted || !slot.changes || matches!(slot.content, Content::Empty) {
            return false;
        }
        slot.content = Content::Empty;
        slot.former += 1;
        true
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Fixes the number of slots, `spare` of them empty, and lists them as the VM gets them.
    pub fn freeze(&mut self, spare: usize) -> Vec<Option<(&DiskFile, String)>> {
        self.booted = true;
        let wanted = (self.slots.len() + spare).min(MAX_DISKS);
        self.slots.resize_with(wanted, Slot::empty);
        for slot in &mut self.slots {
            slot.changes = !matches!(slot.content, Content::Image { .. });
        }
        let slots = self.slots.iter().enumerate().map(|(number, slot)| match &slot.content {
            Content::Image { file, .. } => Some((&**file, serial(number, 0))),
            Content::Empty | Content::Private => None,
        });
        slots.collect()
    }

    fn free_slot(&mut self) -> Result<usize, NoSlot> {
        if let Some(number) = self.slots.iter().position(|slot| matches!(slot.content, Content::Empty)) {
            return Ok(number);
        }
        if self.booted || self.slots.len() >= MAX_DISKS {
            return Err(NoSlot { slots: self.slots.len() });
        }
        self.slots.push(Slot::empty());
        Ok(self.slots.len() - 1)
    }

    fn guest_disk(&self, number: usize, bytes: u64) -> GuestDisk {
        // Bounded by MAX_DISKS.
        GuestDisk { slot: number as u8, serial: serial(number, self.slots[number].former), bytes }
    }
}

impl Slot {
    fn empty() -> Self {
        Self { content: Content::Empty, former: 0, changes: false }
    }
}

/// Tells the disks of a slot apart that follow each other.
fn serial(number: usize, former: u32) -> String {
    match former {
        0 => format!("theca-{number}"),
        former => format!("theca-{number}-{former}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    struct Images(tempfile::TempDir);

    impl Images {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn open(&self, name: &str, read_only: bool) -> DiskFile {
            let path = self.0.path().join(name);
            if !Path::exists(&path) {
                std::fs::write(&path, [0; 512]).unwrap();
            }
            DiskFile::open(&path, read_only).unwrap()
        }
    }

    #[test]
    fn an_announced_disk_is_found_again_by_what_it_is() {
        let (images, mut slots) = (Images::new(), Slots::default());
        slots.announce(images.open("base", true)).unwrap();
        slots.announce(images.open("disk", false)).unwrap();
        assert_eq!(slots.freeze(0).len(), 2);
        let disk = slots.place(images.open("disk", false)).unwrap();
        assert_eq!((disk.disk.slot, disk.disk.serial.as_str()), (1, "theca-1"));
        assert!(disk.attach.is_none());
        assert!(matches!(slots.place(images.open("other", true)), Err(PlaceError::Full(_))));
    }

    #[test]
    fn a_shared_layer_takes_one_slot_and_a_writable_disk_has_one_user() {
        let (images, mut slots) = (Images::new(), Slots::default());
        let first = slots.place(images.open("base", true)).unwrap();
        assert_eq!(slots.place(images.open("base", true)).unwrap().disk, first.disk);
        let disk = slots.place(images.open("disk", false)).unwrap();
        let in_use = slots.place(images.open("disk", false));
        assert!(matches!(in_use, Err(PlaceError::Disk(DiskError::InUse(_)))));
        assert!(!slots.release(&disk.disk));
        assert_eq!(slots.place(images.open("disk", false)).unwrap().disk, disk.disk);
        assert!(slots.place(images.open("disk", true)).is_err(), "readable while another writes");
    }

    #[test]
    fn a_running_vm_takes_disks_until_its_spare_slots_are_full() {
        let (images, mut slots) = (Images::new(), Slots::default());
        slots.place(images.open("base", true)).unwrap();
        slots.freeze(SPARE_SLOTS);
        for number in 0..SPARE_SLOTS {
            let placed = slots.place(images.open(&format!("layer-{number}"), true)).unwrap();
            assert!(placed.attach.is_some());
        }
        assert!(matches!(slots.place_private(), Err(NoSlot { slots: 7 })));
    }

    #[test]
    fn a_disk_leaves_its_spare_slot_with_its_last_container() {
        let (images, mut slots) = (Images::new(), Slots::default());
        let first = slots.place(images.open("base", true)).unwrap();
        slots.freeze(1);
        assert!(!slots.release(&first.disk), "the guest knows its slot as that of a read-only disk");

        let layer = slots.place(images.open("layer", true)).unwrap().disk;
        let again = slots.place(images.open("layer", true)).unwrap().disk;
        assert_eq!((layer.slot, layer.bytes), (1, 512));
        assert!(!slots.release(&layer), "another container uses it");
        assert!(slots.release(&again));
        assert!(!slots.release(&again), "a second time");

        let private = slots.place_private().unwrap();
        assert_eq!((private.slot, private.serial.as_str()), (1, "theca-1-1"), "another disk by its name");
        assert!(slots.release(&private));
    }
}
