//! A file that reads into guest RAM by laying its pages there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ReadVolatile, VolatileMemoryError, VolatileSlice};

use crate::sys::mapping::{self, PAGE};

/// A file with a position of its own, for the loader and for guest RAM.
///
/// `ReadVolatile` maps where file offset and address agree within a page, and reads the ends.
pub struct Source<'a> {
    file: &'a File,
    position: u64,
    length: u64,
}

impl<'a> Source<'a> {
    /// From the start of `file`, which keeps its length while the guest runs.
    pub fn new(file: &'a File) -> io::Result<Self> {
        Ok(Self { file, position: 0, length: file.metadata()?.len() })
    }

    /// Length of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How many of the next `wanted` bytes can be mapped at `address`, and how many must be read before that.
    fn split(&self, address: usize, wanted: usize) -> Step {
        let skew = self.position as usize % PAGE;
        if address % PAGE != skew {
            return Step::Read(wanted);
        }
        let head = (PAGE - skew) % PAGE;
        let whole = wanted.saturating_sub(head) / PAGE * PAGE;
        match (head, whole) {
            (_, 0) => Step::Read(wanted),
            (0, whole) => Step::Map(whole),
            (head, _) => Step::Read(head),
        }
    }
}

impl Source<'_> {
    /// Takes the first step into `ram`, which is not larger than what is left.
    fn step<B: BitmapSlice>(&self, ram: &VolatileSlice<'_, B>) -> Result<usize, VolatileMemoryError> {
        let address = ram.ptr_guard().as_ptr() as usize;
        match self.split(address, ram.len()) {
            Step::Map(bytes) => {
                let pages = ram.subslice(0, bytes)?;
                mapping::lay_file_over(&pages, self.file.as_fd(), self.position)
                    .map_err(VolatileMemoryError::IOError)?;
                Ok(bytes)
            }
            Step::Read(bytes) => {
                let mut file = self.file;
                file.seek(SeekFrom::Start(self.position)).map_err(VolatileMemoryError::IOError)?;
                file.read_volatile(&mut ram.subslice(0, bytes)?)
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Read(usize),
    Map(usize),
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Source<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
            SeekFrom::End(delta) => self.length.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl ReadVolatile for Source<'_> {
    /// Reads all there is: callers take less than asked for as the end of the file.
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        ram: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let left = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = ram.len().min(left);
        let mut done = 0;
        while done < wanted {
            let piece = ram.subslice(done, wanted - done)?;
            let taken = self.step(&piece)?;
            if taken == 0 {
                break;
            }
            self.position += taken as u64;
            done += taken;
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::memory::{MemorySize, allocate};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn whole_pages_are_mapped_and_the_ends_read() {
        let file = file(&[0; 5 * PAGE]);
        let mut source = Source::new(&file).unwrap();
        assert_eq!(source.split(0x10000, 3 * PAGE + 7), Step::Map(3 * PAGE));
        assert_eq!(source.split(0x10008, 3 * PAGE), Step::Read(3 * PAGE));
        source.position = 0x100;
        assert_eq!(source.split(0x10100, 3 * PAGE), Step::Read(PAGE - 0x100));
        assert_eq!(source.split(0x10100, 20), Step::Read(20));
    }

    #[test]
    fn what_arrives_in_memory_is_the_file() {
        let bytes: Vec<u8> = (0..3 * PAGE + 123).map(|at| (at / 7) as u8).collect();
        let file = file(&bytes);
        let memory = allocate(MemorySize::from_mib(32).unwrap()).unwrap();
        for (offset, address) in [(0usize, 0x10_0000u64), (0x10, 0x20_0010), (0x10, 0x30_0000)] {
            let mut source = Source::new(&file).unwrap();
            source.seek(SeekFrom::Start(offset as u64)).unwrap();
            let wanted = bytes.len() - offset;
            memory.read_exact_volatile_from(GuestAddress(address), &mut source, wanted).unwrap();
            let mut loaded = vec![0; wanted];
            memory.read_slice(&mut loaded, GuestAddress(address)).unwrap();
            assert!(loaded == bytes[offset..], "offset {offset:#x} at {address:#x}");
        }
    }

    #[test]
    fn what_the_guest_writes_does_not_reach_the_file() {
        let file = file(&[1; 2 * PAGE]);
        let memory = allocate(MemorySize::from_mib(32).unwrap()).unwrap();
        let mut source = Source::new(&file).unwrap();
        memory.read_exact_volatile_from(GuestAddress(0x10_0000), &mut source, 2 * PAGE).unwrap();
        memory.write_obj(9u8, GuestAddress(0x10_0000)).unwrap();
        let mut first = [0];
        file.read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first, [1]);
    }

    #[test]
    fn a_short_file_is_an_error_and_no_fault() {
        let file = file(&[1; PAGE + 1]);
        let memory = allocate(MemorySize::from_mib(32).unwrap()).unwrap();
        let mut source = Source::new(&file).unwrap();
        assert!(memory.read_exact_volatile_from(GuestAddress(0x10_0000), &mut source, 3 * PAGE).is_err());
    }
}
