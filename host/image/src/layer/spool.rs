//! Where file data waits between being unpacked and being written to the image: one unnamed temporary file.
//!
//! It has no name, so that a kill at any moment leaves nothing of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::erofs::Contents;
use crate::tar::TarError;
use crate::tree::Content;

use super::LayerError;

const BUFFER: usize = 256 << 10;

/// File data of all layers, one after the other.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
    buffer: Vec<u8>,
}

impl Spool {
    /// An empty spool on the file system of a folder.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(folder)?, end: 0, buffer: vec![0; BUFFER] })
    }

    /// Keeps `size` bytes of a stream.
    pub(super) fn append(&mut self, data: &mut impl Read, size: u64) -> Result<Content, LayerError> {
        let content = Content { key: self.end, size };
        let mut left = size;
        while left > 0 {
            let chunk = &mut self.buffer[..BUFFER.min(usize::try_from(left).unwrap_or(BUFFER))];
            data.read_exact(chunk).map_err(TarError::Io)?;
            self.file.write_all(chunk).map_err(LayerError::Spool)?;
            left -= chunk.len() as u64;
        }
        self.end += size;
        Ok(content)
    }
}

impl Contents for Spool {
    fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, content.key + offset)
    }
}
