//! The end of a namespace's events on disk: those that were told and that a reader may not have taken.
//!
//! ```text
//!   <state>/.thecad/<namespace>/events.log
//!     {"Told":{"commit":["<life>",7],"event":{"number":41,…}}}      before any reader is given it
//!     {"Taken":{"number":41,"readers":2}}                           up to where every reader has got, and how many there are
//! ```
//!
//! Lines are only added, all those of one change in one write; now and then the file is written anew without what is of no
//! use any more. It is with the kernel, not on the disk: what a killed process has written is there.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{Event, RING, What};
use crate::id::{ContainerId, Namespace, SandboxId};
use crate::node::private;

const NAME: &str = "events.log";
/// Lines that a file may have before it is written anew.
const MOST_LINES: usize = 4 * RING;
/// Most that is read of one.
const MOST_BYTES: u64 = 64 << 20;

/// Which change of which sandbox an event was told with: when the sandbox was created, and the number of the change.
pub type Commit = (SystemTime, u64);

/// Where readers are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The last event that all of them have taken.
    pub number: u64,
    /// How many there are.
    pub readers: usize,
}

#[derive(Serialize, Deserialize)]
enum Line<E> {
    Told { commit: Option<Commit>, event: E },
    Taken(Taken),
}

/// The events that were told of one sandbox with its last change.
#[derive(Clone, Debug)]
pub struct LastTold {
    /// Which change that was.
    pub commit: Commit,
    /// What was told.
    pub told: Vec<(Option<ContainerId>, What)>,
}

impl LastTold {
    /// Whether the sandbox's entry, of that life and that change, does not know of it.
    pub fn is_newer_than(&self, life: SystemTime, revision: u64) -> bool {
        self.commit.0 == life && self.commit.1 > revision
    }
}

/// What an earlier process has left of one namespace.
#[derive(Debug, Default)]
pub struct Left {
    /// The newest events that some reader has not taken.
    pub events: Vec<Event>,
    /// The number of the last event.
    pub last: u64,
    /// Where readers were.
    pub taken: Taken,
    /// Of each sandbox, what was told last.
    pub last_told: HashMap<SandboxId, LastTold>,
    /// Lines that the file has.
    pub lines: usize,
}

/// One namespace's file.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    lines: usize,
    /// Told once.
    broken: bool,
}

impl Tail {
    /// That of `namespace` below `folder`, which has so many lines. It is made with its first one.
    pub fn new(folder: &Path, namespace: &Namespace, lines: usize) -> Self {
        let path = folder.join(namespace.as_str()).join(NAME);
        Self { path, file: None, lines, broken: false }
    }

    /// Adds events, which were told with one change.
    pub fn tell(&mut self, commit: Option<Commit>, events: &[Arc<Event>]) {
        self.add(events.iter().map(|event| Line::Told { commit, event: &**event }));
    }

    /// Adds where readers are.
    pub fn mark(&mut self, taken: Taken) {
        self.add(std::iter::once(Line::Taken(taken)));
    }

    /// Whether it has become long.
    pub fn is_long(&self) -> bool {
        self.lines > MOST_LINES
    }

    /// Writes anew what is still of use.
    pub fn renew<'a>(&mut self, events: impl Iterator<Item = &'a Arc<Event>>, taken: Taken) {
        let lines = events.map(|event| Line::Told { commit: None, event: &**event });
        let lines = std::iter::once(Line::Taken(taken)).chain(lines);
        let (bytes, lines) = encode(lines);
        let fresh = self.path.with_extension("new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let written = file.and_then(|mut file| file.write_all(&bytes));
        let renewed = written.and_then(|()| fs::rename(&fresh, &self.path));
        (self.file, self.lines) = (None, lines);
        self.check(renewed);
    }

    /// Nobody is to be told anything.
    pub fn remove(&mut self) {
        (self.file, self.lines) = (None, 0);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.check(Err(error)),
            _ => {}
        }
    }

    fn add<'a>(&mut self, lines: impl Iterator<Item = Line<&'a Event>>) {
        let (bytes, lines) = encode(lines);
        self.lines += lines;
        let added = self.append(&bytes);
        self.check(added);
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.path.parent().map_or(Ok(()), private::make_folder)?;
            let options = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
            let mut file = options?;
            // Half a line of an earlier process ends here.
            file.write_all(b"\n")?;
            self.file = Some(file);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    fn check(&mut self, done: io::Result<()>) {
        if let Err(error) = done {
            if !self.broken {
                let path = self.path.display();
                warn!(%path, %error, "events that are told while thecad is killed can be lost: they cannot be written down");
            }
            self.broken = true;
        }
    }
}

fn encode<'a>(lines: impl Iterator<Item = Line<&'a Event>>) -> (Vec<u8>, usize) {
    let (mut bytes, mut count) = (Vec::new(), 0);
    for line in lines {
        // Numbers, texts and times after 1970 can be written.
        if serde_json::to_writer(&mut bytes, &line).is_ok() {
            bytes.push(b'\n');
            count += 1;
        }
    }
    (bytes, count)
}

/// What an earlier process has left below `folder`.
pub fn left(folder: &Path) -> Vec<(Namespace, Left)> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let namespace = Namespace::from_str(entry.file_name().to_str()?).ok()?;
        let path = entry.path().join(NAME);
        match read(&path) {
            Ok(left) => Some((namespace, left)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(path = %path.display(), %error, "events that were not read yet are lost");
                None
            }
        }
    })
    .collect()
}

fn read(path: &Path) -> io::Result<Left> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES).read_to_string(&mut text)?;
    let mut left = Left::default();
    // One that is no line is half of one.
    for line in text.lines().filter_map(|line| serde_json::from_str::<Line<Event>>(line).ok()) {
        left.lines += 1;
        match line {
            Line::Taken(taken) => {
                left.taken = taken;
                left.last = left.last.max(taken.number);
            }
            Line::Told { commit, event } => {
                if let Some(commit) = commit {
                    left.note(commit, &event);
                }
                left.last = left.last.max(event.number);
                left.events.push(event);
            }
        }
    }
    left.events.retain(|event| event.number > left.taken.number);
    let spare = left.events.len().saturating_sub(RING);
    left.events.drain(..spare);
    // Without gaps, even if a line could not be written.
    let numbers = (1..=left.last).rev();
    left.events.iter_mut().rev().zip(numbers).for_each(|(event, number)| event.number = number);
    Ok(left)
}

impl Left {
    fn note(&mut self, commit: Commit, event: &Event) {
        let fresh = || LastTold { commit, told: Vec::new() };
        let last = self.last_told.entry(event.sandbox.clone()).or_insert_with(fresh);
        if last.commit != commit {
            *last = fresh();
        }
        last.told.push((event.container.clone(), event.what.clone()));
    }
}
