//! A container's log: what the keeper writes in the CRI log format, read back.
//!
//! Each line is `<time> <stream> <tag> <text>`; the tag `P` says that the text goes on in the next entry of its stream, `F`
//! that it is a full line. The keeper renames a full log to `<path>.1` and begins anew.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written, as in the log: RFC 3339.
    pub time: String,
    /// Where it was written.
    pub stream: Stream,
    /// Its text, with its newline if it is a full line.
    pub text: Vec<u8>,
}

impl Entry {
    /// Reads one line of the log, without its newline. `None` if it is none.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |&byte| byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.to_owned();
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let full = match fields.next()?.split(|&byte| byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let mut text = fields.next().unwrap_or_default().to_vec();
        if full {
            text.push(b'\n');
        }
        Some(Self { time, stream, text })
    }

    /// Whether a line ends here.
    pub fn ends_line(&self) -> bool {
        self.text.last() == Some(&b'\n')
    }
}

/// Reads a log from its beginning, the renamed part first, and then what is added.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    current: Option<BufReader<File>>,
    /// The part before the last renaming, until it has been read.
    older: Option<BufReader<File>>,
    /// A line that has no end yet.
    partial: Vec<u8>,
}

impl Reader {
    /// Opens a log. One that is not there yet is empty so far.
    pub fn open(path: &Path) -> io::Result<Self> {
        let older = open(&path.with_extension("log.1"))?;
        Ok(Self { path: path.to_owned(), current: open(path)?, older, partial: Vec::new() })
    }

    /// All complete entries that are there and were not returned before.
    pub fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if let Some(mut older) = self.older.take() {
            self.drain(&mut older, &mut entries)?;
        }
        if self.current.is_none() {
            self.current = open(&self.path)?;
        }
        if let Some(mut current) = self.current.take() {
            self.drain(&mut current, &mut entries)?;
            let renamed = match std::fs::metadata(&self.path) {
                Ok(there) => there.ino() != current.get_ref().metadata()?.ino(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            if renamed {
                // What came between the last read and the renaming.
                self.drain(&mut current, &mut entries)?;
                self.current = open(&self.path)?;
                if let Some(mut next) = self.current.take() {
                    self.drain(&mut next, &mut entries)?;
                    self.current = Some(next);
                }
            } else {
                self.current = Some(current);
            }
        }
        Ok(entries)
    }

    fn drain(&mut self, file: &mut BufReader<File>, entries: &mut Vec<Entry>) -> io::Result<()> {
        // The buffer remembers an end of file that is no longer one.
        let position = file.stream_position()?;
        file.seek(SeekFrom::Start(position))?;
        while file.read_until(b'\n', &mut self.partial)? > 0 {
            if self.partial.last() != Some(&b'\n') {
                break;
            }
            self.partial.pop();
            entries.extend(Entry::parse(&self.partial));
            self.partial.clear();
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last `lines` lines of some entries: a line may be several entries.
pub fn tail(entries: &[Entry], lines: usize) -> &[Entry] {
    let ends = entries.iter().enumerate().rev().filter(|(_, entry)| entry.ends_line());
    let mut ends = ends.map(|(index, _)| index);
    // A line without an end counts too.
    let open_end = entries.last().is_some_and(|entry| !entry.ends_line());
    let full = lines.saturating_sub(usize::from(open_end));
    if lines == 0 {
        return &[];
    }
    match ends.nth(full) {
        Some(before) => &entries[before + 1..],
        None => entries,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn texts(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.text).into_owned()).collect()
    }

    #[test]
    fn an_entry_has_time_stream_and_text() {
        let entry = Entry::parse(b"2026-08-01T12:00:00.000000000Z stderr F hello  world ").unwrap();
        assert_eq!(entry.time, "2026-08-01T12:00:00.000000000Z");
        assert_eq!((entry.stream, entry.text.as_slice()), (Stream::Stderr, &b"hello  world \n"[..]));
        assert_eq!(Entry::parse(b"t stdout P part").unwrap().text, b"part");
        assert_eq!(Entry::parse(b"t stdout F").unwrap().text, b"\n");
        for line in [&b""[..], b"t stdout", b"t stdin F x", b"t stdout X x"] {
            assert_eq!(Entry::parse(line), None);
        }
    }

    #[test]
    fn what_is_added_is_read_once_and_half_lines_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("container.log");
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.read().unwrap(), []);
        let mut log = File::create(&path).unwrap();
        log.write_all(b"t stdout F one\nt stdout F tw").unwrap();
        assert_eq!(texts(&reader.read().unwrap()), ["one\n"]);
        log.write_all(b"o\n").unwrap();
        assert_eq!(texts(&reader.read().unwrap()), ["two\n"]);
        assert_eq!(reader.read().unwrap(), []);
    }

    #[test]
    fn a_renamed_log_goes_on_in_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, older) = (folder.path().join("container.log"), folder.path().join("container.log.1"));
        fs::write(&path, "t stdout F one\n").unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(texts(&reader.read().unwrap()), ["one\n"]);
        let mut log = File::options().append(true).open(&path).unwrap();
        log.write_all(b"t stdout F two\n").unwrap();
        fs::rename(&path, &older).unwrap();
        fs::write(&path, "t stdout F three\n").unwrap();
        assert_eq!(texts(&reader.read().unwrap()), ["two\n", "three\n"]);
        let from_the_start = Reader::open(&path).unwrap().read().unwrap();
        assert_eq!(texts(&from_the_start), ["one\n", "two\n", "three\n"]);
    }

    #[test]
    fn the_tail_counts_lines_not_entries() {
        let entry = |text: &str| Entry { time: "t".into(), stream: Stream::Stdout, text: text.into() };
        let entries = [entry("a\n"), entry("b1 "), entry("b2\n"), entry("c")];
        assert_eq!(texts(tail(&entries, 1)), ["c"]);
        assert_eq!(texts(tail(&entries, 2)), ["b1 ", "b2\n", "c"]);
        assert_eq!(texts(tail(&entries[..3], 1)), ["b1 ", "b2\n"]);
        assert_eq!(tail(&entries, 0), []);
        assert_eq!(tail(&entries, 9).len(), 4);
    }
}
