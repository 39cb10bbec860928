//! Which image is in which of the VM's disk slots.
//!
//! A VM has its slots from the start and a disk once given stays. Before the boot every image makes a slot; at the boot
//! spare ones are added; afterwards images go into those. A read-only image that several containers use takes one slot.

use std::sync::Arc;

use crate::agent::GuestDisk;
use crate::vmm::DiskFile;
use crate::vmm::disk::DiskError;

/// Most disks of one VM: one interrupt line each, and the in-kernel IOAPIC has 24.
pub const MAX_SLOTS: usize = 16;
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
enum Slot {
    /// Present in the VM, without a disk.
    Empty,
    /// Taken for an image that the keeper makes itself, for one container.
    Private,
    /// Holds an image, used by so many containers.
    Image { file: Arc<DiskFile>, users: usize },
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
        self.release(&placed.disk);
        Ok(())
    }

    /// Finds or makes a place for `file` and counts its user.
    pub fn place(&mut self, file: DiskFile) -> Result<Placed, PlaceError> {
        let known = self.slots.iter_mut().enumerate().find_map(|(number, slot)| match slot {
            Slot::Image { file: held, users } if held.id() == file.id() => Some((number, held, users)),
            _ => None,
        });
        if let Some((number, held, users)) = known {
            if (held.read_only() && file.read_only()) || (*users == 0 && held.read_only() == file.read_only())
            {
                *users += 1;
                return Ok(Placed { disk: guest_disk(number), attach: None });
            }
            return Err(DiskError::InUse(file.path().to_owned()).into());
        }
        if !file.read_only() {
            file.lock()?;
        }
        let number = self.free_slot()?;
        let file = Arc::new(file);
        let attach = self.booted.then(|| file.clone());
        self.slots[number] = Slot::Image { file, users: 1 };
        Ok(Placed { disk: guest_disk(number), attach })
    }

    /// A slot for an image that does not exist yet. It is never free again: the disk stays in it.
    pub fn place_private(&mut self) -> Result<GuestDisk, NoSlot> {
        let number = self.free_slot()?;
        self.slots[number] = Slot::Private;
        Ok(guest_disk(number))
    }

    /// One user less.
    pub fn release(&mut self, disk: &GuestDisk) {
        if let Some(Slot::Image { users, .. }) = self.slots.get_mut(usize::from(disk.slot)) {
            *users = users.saturating_sub(1);
        }
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Fixes the number of slots, `spare` of them empty, and lists them as the VM gets them.
    pub fn freeze(&mut self, spare: usize) -> Vec<Option<(&DiskFile, String)>> {
        self.booted = true;
        let wanted = (self.slots.len() + spare).min(MAX_SLOTS);
        self.slots.resize_with(wanted, || Slot::Empty);
        let slots = self.slots.iter().enumerate().map(|(number, slot)| match slot {
            Slot::Image { file, .. } => Some((&**file, serial(number))),
            Slot::Empty | Slot::Private => None,
        });
        slots.collect()
    }

    fn free_slot(&mut self) -> Result<usize, NoSlot> {
        if let Some(number) = self.slots.iter().position(|slot| matches!(slot, Slot::Empty)) {
            return Ok(number);
        }
        if self.booted || self.slots.len() >= MAX_SLOTS {
            return Err(NoSlot { slots: self.slots.len() });
        }
        self.slots.push(Slot::Empty);
        Ok(self.slots.len() - 1)
    }
}

fn guest_disk(number: usize) -> GuestDisk {
    // Bounded by MAX_SLOTS.
    GuestDisk { slot: number as u8, serial: serial(number) }
}

fn serial(number: usize) -> String {
    format!("theca-{number}")
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
        slots.release(&disk.disk);
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
}
