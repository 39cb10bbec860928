//! The log of a task's output, one line an entry in the format that Kubernetes' container runtimes share:
//!
//! ```text
//! 2026-01-31T12:00:00.000000001Z stdout F a whole line
//! 2026-01-31T12:00:00.000000002Z stderr P a piece of a line that was too long or never ended
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

use super::StdioError;

/// Longest line kept in one entry.
const MAX_LINE: usize = 16 * 1024;
/// Bound of a log that names none.
pub const DEFAULT_MAX_BYTES: u64 = 10 * 1024 * 1024;

/// Where a log is and how large it grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The file; at its bound it is renamed to `<path>.1`.
    pub path: PathBuf,
    /// The bound.
    pub max_bytes: u64,
}

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamName {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A log that both outputs of a task write to.
#[derive(Clone, Debug)]
pub struct SharedLog(Arc<Mutex<CriLog>>);

impl SharedLog {
    /// Shares `log`.
    pub fn new(log: CriLog) -> Self {
        Self(Arc::new(Mutex::new(log)))
    }

    /// Takes output; whole lines are written at once.
    pub fn append(&self, stream: StreamName, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(stream, bytes, SystemTime::now());
    }

    /// Writes what is left of a line without end.
    pub fn finish(&self, stream: StreamName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finish(stream, SystemTime::now());
    }
}

/// The log itself. A full disk loses entries, not the task.
#[derive(Debug)]
pub struct CriLog {
    path: PathBuf,
    max_bytes: u64,
    file: File,
    length: u64,
    /// Begun lines of stdout and stderr.
    begun: [Vec<u8>; 2],
    entry: Vec<u8>,
    failing: bool,
}

impl CriLog {
    /// Opens the log to append to it.
    pub fn open(options: LogOptions) -> Result<Self, StdioError> {
        let LogOptions { path, max_bytes } = options;
        match open(&path) {
            Ok((file, length)) => {
                let (begun, entry) = (Default::default(), Vec::new());
                Ok(Self { path, max_bytes, file, length, begun, entry, failing: false })
            }
            Err(source) => Err(StdioError::Log { path, source }),
        }
    }

    fn append(&mut self, stream: StreamName, mut bytes: &[u8], now: SystemTime) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.begun[stream as usize].len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let (piece, rest) = match end {
                Some(end) => (&bytes[..end], &bytes[end + 1..]),
                None => bytes.split_at(room.min(bytes.len())),
            };
            self.begun[stream as usize].extend_from_slice(piece);
            bytes = rest;
            if end.is_some() {
                self.write_entry(stream, 'F', now);
            } else if self.begun[stream as usize].len() == MAX_LINE {
                self.write_entry(stream, 'P', now);
            }
        }
    }

    fn finish(&mut self, stream: StreamName, now: SystemTime) {
        if !self.begun[stream as usize].is_empty() {
            self.write_entry(stream, 'P', now);
        }
    }

    fn write_entry(&mut self, stream: StreamName, tag: char, now: SystemTime) {
        let name = match stream {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        };
        self.entry.clear();
        self.entry.extend_from_slice(format!("{} {name} {tag} ", rfc3339(now)).as_bytes());
        self.entry.append(&mut self.begun[stream as usize]);
        self.entry.push(b'\n');
        let written = self.rotate().and_then(|()| self.file.write_all(&self.entry));
        match written {
            Ok(()) => {
                self.length += self.entry.len() as u64;
                self.failing = false;
            }
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(log = %self.path.display(), %error, "the task's log loses entries");
            }
            Err(_) => {}
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.length == 0 || self.length + self.entry.len() as u64 <= self.max_bytes {
            return Ok(());
        }
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        (self.file, self.length) = open(&self.path)?;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// UTC with nanoseconds. The calendar is computed for eras of 400 years, which all have the same number of days.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted from 1 March of year 0, so that the leap day is a year's last.
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log(max_bytes: u64) -> (tempfile::TempDir, CriLog, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.log");
        let log = CriLog::open(LogOptions { path: path.clone(), max_bytes }).unwrap();
        (folder, log, path)
    }

    #[test]
    fn lines_of_both_streams_are_entries_and_the_rest_is_partial() {
        let (_folder, mut log, path) = log(DEFAULT_MAX_BYTES);
        log.append(StreamName::Stdout, b"one\ntw", UNIX_EPOCH);
        log.append(StreamName::Stderr, b"oops\n", UNIX_EPOCH);
        log.append(StreamName::Stdout, b"o\n\nthree", UNIX_EPOCH);
        log.finish(StreamName::Stdout, UNIX_EPOCH);
        log.finish(StreamName::Stderr, UNIX_EPOCH);
        let text = fs::read_to_string(path).unwrap();
        let entries: Vec<_> =
            text.lines().map(|line| line.strip_prefix("1970-01-01T00:00:00.000000000Z ").unwrap()).collect();
        assert_eq!(entries, ["stdout F one", "stderr F oops", "stdout F two", "stdout F ", "stdout P three"]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let (_folder, mut log, path) = log(DEFAULT_MAX_BYTES);
        log.append(StreamName::Stdout, &vec![b'x'; 3 * MAX_LINE + 5], UNIX_EPOCH);
        assert_eq!(log.begun[0].len(), 5);
        log.append(StreamName::Stdout, b"\n", UNIX_EPOCH);
        let text = fs::read_to_string(path).unwrap();
        let tags: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "P", "P", "F"]);
    }

    #[test]
    fn at_its_bound_the_log_begins_anew_and_keeps_one_old_file() {
        let (_folder, mut log, path) = log(100);
        for number in 0..10 {
            log.append(StreamName::Stdout, format!("line {number}\n").as_bytes(), UNIX_EPOCH);
        }
        let old = path.with_extension("log.1");
        assert!(fs::metadata(&path).unwrap().len() <= 100);
        assert!(fs::read_to_string(path).unwrap().ends_with("line 9\n"));
        assert!(fs::read_to_string(old).unwrap().ends_with("line 7\n"));
    }

    #[test]
    fn times_are_utc_across_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000000007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000007Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000000007Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000000007Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, 7)), expected);
        }
    }
}
