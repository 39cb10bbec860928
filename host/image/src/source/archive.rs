//! Files of an image that is one tar file. An index of where they are is made first, then they are read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::layer::decompress;
use crate::limits::{Budget, Limits};
use crate::tar::{Archive, EntryKind};
use crate::tree::EntryPath;

use super::{Files, Opened, SourceError};

/// Files in the archive around the layers; a layout has a few per layer.
const MEMBERS_MAX: u64 = 100_000;
/// Older `docker save` writes a layer once and links to it from others.
const LINKS_MAX: usize = 8;

const READ_AHEAD: usize = 256 << 10;

enum Member {
    At { offset: u64, size: u64 },
    Link(String),
}

/// A tar file with its index.
pub struct ArchiveFiles {
    file: File,
    members: HashMap<String, Member>,
}

impl ArchiveFiles {
    pub fn open(path: &Path, scratch: &Path, limits: &Limits) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Read { path: path.display().to_string(), source };
        let file = File::open(path).map_err(failed)?;
        let file = seekable(file, scratch, limits.unpacked_bytes).map_err(failed)?.ok_or_else(|| {
            SourceError::TooLarge { what: path.display().to_string(), limit: limits.unpacked_bytes }
        })?;
        let members = index(&file, path, limits)?;
        Ok(Self { file, members })
    }
}

/// The file itself if it is a plain tar, else a copy of what comes out of it; `None` if that is too much.
fn seekable(mut file: File, scratch: &Path, limit: u64) -> io::Result<Option<File>> {
    let mut magic = [0; 2];
    let regular = file.metadata()?.is_file();
    if regular
        && (file.read_at(&mut magic, 0)? < magic.len() || !matches!(magic, [0x1f, 0x8b] | [0x28, 0xb5]))
    {
        return Ok(Some(file));
    }
    let mut copy = tempfile::tempfile_in(scratch)?;
    let copied = io::copy(&mut decompress(&mut file)?.take(limit + 1), &mut copy)?;
    copy.rewind()?;
    Ok((copied <= limit).then_some(copy))
}

fn index(file: &File, path: &Path, limits: &Limits) -> Result<HashMap<String, Member>, SourceError> {
    let bad = |source| SourceError::Archive { path: path.to_owned(), source };
    let mut archive = Archive::new(BufReader::with_capacity(READ_AHEAD, file));
    let mut budget = Budget::new(Limits { entries: MEMBERS_MAX, ..limits.clone() });
    let mut members = HashMap::new();
    while let Some(entry) = archive.next_entry().map_err(bad)? {
        let shown = String::from_utf8_lossy(&entry.path).into_owned();
        let problem = |problem: String| SourceError::Document {
            what: format!("entry {shown:?} of the archive"),
            problem,
        };
        budget.take_entry(entry.path.len()).map_err(|error| problem(format!("is too much: {error}")))?;
        let parsed =
            EntryPath::parse(&entry.path).map_err(|error| problem(format!("is refused: {error}")))?;
        let name = String::from_utf8_lossy(&parsed.components().join(&b'/')).into_owned();
        let member = match entry.kind {
            EntryKind::File => Member::At { offset: archive.data_offset(), size: entry.size },
            EntryKind::HardLink(target) => Member::Link(String::from_utf8_lossy(&target).into_owned()),
            EntryKind::Symlink(target) => Member::Link(beside(&name, &String::from_utf8_lossy(&target))),
            EntryKind::Directory => continue,
            EntryKind::CharDevice(_) | EntryKind::BlockDevice(_) | EntryKind::Fifo => {
                return Err(problem("is neither file, folder nor link".into()));
            }
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// A symlink's target as a path of the archive; names only, no host path is ever made of it.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { name.split('/').collect() };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files for ArchiveFiles {
    fn open(&self, path: &str) -> Result<Option<Opened<'_>>, SourceError> {
        let mut path = path.strip_prefix("./").unwrap_or(path);
        for _ in 0..LINKS_MAX {
            match self.members.get(path) {
                None => return Ok(None),
                Some(Member::Link(target)) => path = target,
                Some(Member::At { offset, size }) => {
                    let section = Section { file: &self.file, at: *offset, end: offset + size };
                    return Ok(Some(Opened { size: *size, data: Box::new(section) }));
                }
            }
        }
        Err(SourceError::Document { what: path.to_owned(), problem: "goes through too many links".into() })
    }
}

/// Part of a file, read by position so that several can be open at once.
struct Section<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
