//! Reads tar streams as images carry them: ustar, PAX and GNU long names, one entry at a time, bounded memory.
//!
//! Written for hostile input rather than for every archive ever made: headers must carry a right checksum, extension
//! bodies are small, and what is not understood (sparse files, multi-volume archives) is refused by name instead of
//! being guessed at. Where the format is ambiguous the reading is the one of Go's `archive/tar`, because that is what
//! made the layers' diff ids mean something to everybody else.

mod header;
mod pax;

use std::io::{self, Read};

use thiserror::Error;

use crate::tree::{Device, Time, Xattrs};

use header::Header;
use pax::Extension;

const BLOCK: usize = 512;
/// Bodies of PAX and GNU extension entries; a PAX body holds attributes of up to 64 KiB each.
const EXTENSION_MAX: u64 = 1 << 20;

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file; its bytes follow.
    File,
    /// A folder.
    Directory,
    /// A symbolic link to this target.
    Symlink(Vec<u8>),
    /// A further name of the file at this path of the archive.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// One entry, extensions applied, nothing else checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as written.
    pub path: Vec<u8>,
    /// What it makes.
    pub kind: EntryKind,
    /// Permission bits, up to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Length of the bytes that follow; 0 for all but files.
    pub size: u64,
    /// Extended attributes by full name.
    pub xattrs: Xattrs,
}

/// Why a stream is no archive that can be used.
#[derive(Debug, Error)]
pub enum TarError {
    /// The stream itself failed.
    #[error("failed to read the archive")]
    Io(#[from] io::Error),
    /// The stream ends inside an entry.
    #[error("the archive ends in the middle of an entry")]
    Truncated,
    /// Something follows the end of the archive.
    #[error("the archive has data after its end")]
    TrailingData,
    /// Not a tar header.
    #[error("bad header: {0}")]
    Header(&'static str),
    /// A malformed extension.
    #[error("bad PAX extension: {0}")]
    Pax(&'static str),
    /// An extension too large to hold.
    #[error("extension entry of {0} bytes is longer than 1 MiB")]
    ExtensionTooLong(u64),
    /// Understood, and not supported.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// Not understood.
    #[error("entry type {0:?} is not supported")]
    UnknownType(char),
}

/// An archive being read.
pub struct Archive<R> {
    stream: R,
    /// Bytes of the current entry not yet read, without padding.
    left: u64,
    padding: u64,
    offset: u64,
}

impl<R: Read> Archive<R> {
    /// Reads from the stream's current position.
    pub fn new(stream: R) -> Self {
        Self { stream, left: 0, padding: 0, offset: 0 }
    }

    /// The next entry; `None` at the end, after which the rest of the stream has been read and found to be zeros.
    /// Bytes of the previous entry that were not read are passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return if extension.is_empty() { Ok(None) } else { Err(TarError::Truncated) };
            };
            match header.type_flag() {
                b'x' => extension.merge_pax(&self.extension_body(&header)?)?,
                b'g' => drop(self.extension_body(&header)?),
                b'L' => extension.path = Some(until_nul(self.extension_body(&header)?)),
                b'K' => extension.link = Some(until_nul(self.extension_body(&header)?)),
                _ => {
                    let entry = header.entry(extension)?;
                    self.enter(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// The stream below.
    pub fn stream(&self) -> &R {
        &self.stream
    }

    /// The stream below, wherever it is by now.
    pub fn into_stream(self) -> R {
        self.stream
    }

    /// Where in the stream the current entry's bytes start.
    pub fn data_offset(&self) -> u64 {
        self.offset
    }

    fn enter(&mut self, size: u64) {
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(TarError::Truncated),
        }
        if block.iter().any(|byte| *byte != 0) {
            return Header::parse(block).map(Some);
        }
        self.expect_zeros()?;
        Ok(None)
    }

    /// Fills the block, or less at the end of the stream.
    fn fill(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < block.len() {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Two blocks of zeros end an archive, and tar pads with more; anything else was put there for somebody.
    fn expect_zeros(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.fill(&mut buffer)? {
                0 => return Ok(()),
                n if buffer[..n].iter().all(|byte| *byte == 0) => {}
                _ => return Err(TarError::TrailingData),
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.stream).take(rest), &mut io::sink())?;
        self.offset += skipped;
        (self.left, self.padding) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(TarError::Truncated) }
    }

    fn extension_body(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > EXTENSION_MAX {
            return Err(TarError::ExtensionTooLong(size));
        }
        self.enter(size);
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        if self.left == 0 { Ok(body) } else { Err(TarError::Truncated) }
    }
}

/// The current entry's bytes. An archive that ends too early shows as [`io::ErrorKind::UnexpectedEof`].
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.stream.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated));
        }
        self.left -= n as u64;
        self.offset += n as u64;
        Ok(n)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

#[cfg(test)]
#[path = "tar_test.rs"]
mod tests;
