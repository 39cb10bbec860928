//! What is remembered of a container between commands, as JSON in its folder.
//!
//! The record says what was asked for and how the last run ended. Whether a container runs right now is the keeper's to
//! say: a record may be behind, and [`super::settle`] brings it up to date.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::id::ContainerId;
use super::name::ContainerName;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// Where its root file system comes from.
    pub source: Source,
    /// What its init runs, for people to read.
    pub command: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// How it runs.
    pub settings: Settings,
    /// The file of `--cidfile`, absolute, until the container is there to stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidfile: Option<PathBuf>,
    /// How far it got.
    pub phase: Phase,
}

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// An image of the store.
    Image {
        /// As it was asked for.
        reference: String,
        /// The digest of its configuration.
        id: String,
        /// Its EROFS disk.
        disk: PathBuf,
    },
    /// A folder of the host.
    Rootfs(PathBuf),
    /// An OCI bundle of the host.
    Bundle {
        /// The bundle.
        bundle: PathBuf,
        /// The folder that its `root.path` names.
        rootfs: PathBuf,
    },
}

/// What a run of a container needs beside its bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_mib: u64,
    /// A guest kernel other than the installed one.
    pub kernel: Option<PathBuf>,
    /// Added to the guest kernel's command line.
    pub kernel_cmdline: String,
    /// Whether the container has a disk of its own to write to.
    pub writable_disk: bool,
    /// Whether the container's init has a terminal.
    pub terminal: bool,
    /// Whether the container's init has an open standard input.
    pub open_stdin: bool,
    /// `--rm`.
    pub auto_remove: bool,
    /// What `stop` sends first.
    pub stop_signal: i32,
    /// How long `stop` waits before it kills, in seconds.
    pub stop_timeout: u32,
}

impl Settings {
    /// Whether a run in the foreground ends with the command that began it: nothing is kept, and with no terminal there was no
    /// way to leave it.
    pub fn ends_with_its_command(&self) -> bool {
        self.auto_remove && !self.terminal
    }
}

/// How far a container got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Phase {
    /// `run` is making and starting it, with the lock held. Seen with the lock free, `run` died: the container is removed.
    Starting,
    /// Made, never started.
    Created,
    /// Started; the keeper knows more.
    Started {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
    /// Over, until it is started again.
    Exited(Exit),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// The init's exit status, or 128+N when signal N ended it.
    pub status: u32,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended, in milliseconds since 1970.
    pub finished_ms: u64,
    /// Whether the guest's kernel killed a process of it for memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// What went wrong, when it was not the container's own exit.
    pub error: Option<String>,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read.
    #[error("failed to read {path}")]
    Read {
        /// The record's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no record.
    #[error("{path} is damaged; `theca rm -f` removes the container")]
    Damaged {
        /// The record's file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

impl Record {
    /// Reads a record.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = fs::read(path).map_err(|source| RecordError::Read { path: path.to_owned(), source })?;
        serde_json::from_slice(&text).map_err(|source| RecordError::Damaged { path: path.to_owned(), source })
    }

    /// Replaces the record at `path`: a reader, or a crash, sees the old one or the new one. That of a container which is
    /// kept is whole after a power cut too.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension(format!("json.{}-{}", process::id(), next_number()));
        let replaced = self.write_new(&next).and_then(|()| fs::rename(&next, path));
        if replaced.is_err() {
            // The failure is told; what is half written goes with the container's folder, if not now.
            let _ = fs::remove_file(&next);
        }
        replaced
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        // One with --rm does not outlive its sandbox, let alone the machine.
        if self.settings.auto_remove { Ok(()) } else { file.sync_data() }
    }

    /// When the present run began, if there is one.
    pub fn started_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Starting | Phase::Created => None,
            Phase::Started { at_ms } => Some(*at_ms),
            Phase::Exited(exit) => Some(exit.started_ms),
        }
    }
}

/// No two files that this process writes have the same name.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Source {
    /// What lists show in the image column.
    pub fn shown(&self) -> String {
        match self {
            Self::Image { reference, .. } => reference.clone(),
            Self::Rootfs(path) => path.display().to_string(),
            Self::Bundle { bundle, .. } => bundle.display().to_string(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A container that was made and never started.
    pub fn a_record(name: &str) -> Record {
        Record {
            id: ContainerId::random().unwrap(),
            name: name.parse().unwrap(),
            created_ms: 1_000,
            source: Source::Rootfs("/srv/root".into()),
            command: vec!["sleep".into(), "60".into()],
            labels: BTreeMap::from([("tier".into(), "web".into())]),
            settings: Settings {
                vcpus: 1,
                memory_mib: 256,
                kernel: None,
                kernel_cmdline: String::new(),
                writable_disk: true,
                terminal: false,
                open_stdin: false,
                auto_remove: false,
                stop_signal: 15,
                stop_timeout: 10,
            },
            cidfile: None,
            phase: Phase::Created,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let mut record = a_record("web");
        record.write(&path).unwrap();
        record.phase = Phase::Exited(Exit {
            status: 137,
            started_ms: 1,
            finished_ms: 2,
            oom_killed: true,
            error: Some("killed".into()),
        });
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no half-written file stays");
    }

    #[test]
    fn writers_of_one_record_do_not_write_into_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let records: Vec<_> = (0..4).map(|_| a_record("web")).collect();
        std::thread::scope(|scope| {
            for record in &records {
                scope.spawn(|| (0..50).for_each(|_| record.write(&path).unwrap()));
            }
            for _ in 0..200 {
                match Record::read(&path) {
                    Ok(read) => assert!(records.contains(&read)),
                    Err(error) => assert!(matches!(error, RecordError::Read { .. }), "{error}"),
                }
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_record_that_cannot_be_put_in_place_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        fs::create_dir(&path).unwrap();
        assert!(a_record("web").write(&path).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_record_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        fs::write(&path, "{\"id\":").unwrap();
        let error = Record::read(&path).unwrap_err();
        assert!(matches!(error, RecordError::Damaged { .. }) && error.to_string().contains("theca rm -f"));
    }
}
