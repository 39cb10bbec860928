//! What the guest printed, kept in a file of bounded size.
//!
//! Serial port and virtio-console write here, the keeper reads the file. Bytes are gathered into lines so that a polled
//! serial port, which sends one byte per exit, does not cost a system call per byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes gathered before they are written even without a line end.
const LINE: usize = 512;
/// Most bytes moved at once when the oldest half is dropped.
const COPY: usize = 4096;

/// A log that never exceeds its bound: when it is full, its oldest half goes.
#[derive(Debug)]
pub struct ConsoleLog {
    file: File,
    /// Bytes in the file.
    length: u64,
    limit: u64,
    pending: Vec<u8>,
    dropped: u64,
}

impl ConsoleLog {
    /// Smallest bound that makes sense.
    pub const MIN_BYTES: u32 = 4096;

    /// Appends to `file`, a regular file open for reading and writing, and keeps it at `limit` bytes or less.
    pub fn new(file: File, limit: u32) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let limit = u64::from(limit.max(Self::MIN_BYTES));
        Ok(Self { file, length, limit, pending: Vec::with_capacity(LINE), dropped: 0 })
    }

    /// Takes bytes from the guest. Errors of the file (a full disk) lose output, never the guest: they count as dropped.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(LINE) {
            if self.pending.len() + piece.len() > LINE {
                self.flush();
            }
            self.pending.extend_from_slice(piece);
        }
        if self.pending.last() == Some(&b'\n') || self.pending.len() == LINE {
            self.flush();
        }
    }

    /// Writes what has been gathered.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = self.pending.len() as u64;
        if self.append().is_err() {
            self.dropped = self.dropped.saturating_add(pending);
        }
        self.pending.clear();
    }

    /// Bytes lost to the bound or to a failing file.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn append(&mut self) -> io::Result<()> {
        let pending = self.pending.len() as u64;
        if self.length + pending > self.limit {
            self.drop_oldest_half()?;
        }
        self.file.write_all_at(&self.pending, self.length)?;
        self.length += pending;
        Ok(())
    }

    /// Moves the newest half to the front, from the next line start on so that no line is cut where avoidable.
    fn drop_oldest_half(&mut self) -> io::Result<()> {
        let mut from = self.length.saturating_sub(self.limit / 2);
        let mut buffer = [0u8; COPY];
        let mut to = 0;
        let mut at_line_start = from == 0;
        let dropped_before = from;
        while from < self.length {
            let wanted = (self.length - from).min(COPY as u64) as usize;
            let read = self.file.read_at(&mut buffer[..wanted], from)?;
            if read == 0 {
                break;
            }
            from += read as u64;
            let mut kept = &buffer[..read];
            if !at_line_start {
                at_line_start = true;
                if let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
                    kept = &kept[end + 1..];
                }
            }
            self.file.write_all_at(kept, to)?;
            to += kept.len() as u64;
        }
        self.file.set_len(to)?;
        self.dropped = self.dropped.saturating_add(dropped_before.max(self.length.saturating_sub(to)));
        self.length = to;
        Ok(())
    }
}

impl Drop for ConsoleLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: u32) -> (ConsoleLog, File) {
        let file = tempfile::tempfile().unwrap();
        (ConsoleLog::new(file.try_clone().unwrap(), limit).unwrap(), file)
    }

    fn text(file: &File) -> String {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_is_written_when_it_ends() {
        let (mut log, file) = log(4096);
        for byte in b"hello" {
            log.write(&[*byte]);
        }
        assert_eq!(text(&file), "");
        log.write(b"\n");
        assert_eq!(text(&file), "hello\n");
    }

    #[test]
    fn a_full_log_drops_its_oldest_lines_and_counts_them() {
        let (mut log, file) = log(4096);
        let mut written = 0;
        for number in 0..2000 {
            let line = format!("line {number}\n");
            written += line.len() as u64;
            log.write(line.as_bytes());
            assert!(file.metadata().unwrap().len() <= 4096);
        }
        let text = text(&file);
        assert!(text.starts_with("line "), "cut inside a line: {:?}", &text[..20]);
        assert!(text.ends_with("line 1999\n"));
        assert_eq!(log.dropped() + text.len() as u64, written);
    }

    #[test]
    fn a_flood_without_line_ends_stays_bounded() {
        let (mut log, file) = log(4096);
        for _ in 0..64 {
            log.write(&[b'x'; 1000]);
        }
        log.flush();
        assert!(file.metadata().unwrap().len() <= 4096);
        assert_eq!(log.dropped() + file.metadata().unwrap().len(), 64_000);
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_output_only() {
        let mut log = ConsoleLog::new(File::open("/dev/null").unwrap(), 4096).unwrap();
        log.write(b"lost\n");
        assert_eq!(log.dropped(), 5);
    }
}
