//! Initial RAM disks: a writer of the "newc" cpio form that the kernel unpacks.
//!
//! The form is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The output depends
//! on the entries alone (no times, no owners), so that equal contents give equal files.

use std::io::{self, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Writes entries one by one; parents come before their children, and [`Archive::finish`] ends it.
pub struct Archive<W> {
    out: W,
    inode: u32,
    offset: usize,
}

impl<W: Write> Archive<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0, offset: 0 }
    }

    /// Adds a folder with mode 0755.
    pub fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, FOLDER | 0o755, (0, 0), &[])
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.entry(name, FILE | mode, (0, 0), contents)
    }

    /// Adds a character device that root alone may use.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(name, CHARACTER_DEVICE | 0o600, (major, minor), &[])
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size =
            u32::try_from(contents.len()).map_err(|_| io::Error::other(format!("{name} is over 4 GiB")))?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.put(b"070701")?;
        for field in fields {
            self.put(format!("{field:08x}").as_bytes())?;
        }
        self.put(name.as_bytes())?;
        self.put(b"\0")?;
        self.pad()?;
        self.put(contents)?;
        self.pad()
    }

    /// Header with name, and contents, each end on a multiple of four.
    fn pad(&mut self) -> io::Result<()> {
        self.put(&[0; 3][..self.offset.wrapping_neg() % 4])
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len();
        self.out.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_documented_form() {
        let mut archive = Archive::new(Vec::new());
        archive.file("init", 0o755, b"abc").unwrap();
        let bytes = archive.finish().unwrap();
        let header = "070701".to_owned()
            + "00000001" + "000081ed" // inode, regular file 0755
            + "00000000" + "00000000" + "00000001" + "00000000" // owner, group, links, time
            + "00000003" // size
            + "00000000" + "00000000" + "00000000" + "00000000" // devices
            + "00000005" + "00000000"; // name with its NUL, checksum
        assert_eq!(&bytes[..110], header.as_bytes());
        assert_eq!(&bytes[110..120], b"init\0\0abc\0");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }

    #[test]
    fn a_device_carries_its_numbers() {
        let mut archive = Archive::new(Vec::new());
        archive.character_device("dev/console", 5, 1).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }
}
