//! What a keeper that was killed may leave: processes, mounts below its folder, the folder itself.
//!
//! Every step is tried even if an earlier one failed, and doing it twice is fine.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use super::record::{Record, RecordError};
use crate::run_dir::{RunDir, RunDirError};
use crate::sys::pidfd::ProcessRef;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something that could not be cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum ResidueError {
    /// The record cannot be read: whom to end is unknown.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A process could not be ended.
    #[error("failed to end the {who} (process {pid})")]
    Kill {
        /// Keeper or VMM.
        who: &'static str,
        /// Its pid.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process is still there.
    #[error("the {who} (process {pid}) was killed and is still there after {} s", PATIENCE.as_secs())]
    StillThere {
        /// Keeper or VMM.
        who: &'static str,
        /// Its pid.
        pid: u32,
    },
    /// Something is still mounted.
    #[error("failed to unmount {}", target.display())]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder is still there.
    #[error(transparent)]
    Folder(#[from] RunDirError),
}

/// Whether a keeper serves in `folder`: its socket accepts.
pub fn is_served(folder: &RunDir) -> bool {
    UnixStream::connect(folder.keeper_socket()).is_ok()
}

/// Ends what still runs of the sandbox in `folder` and removes the folder. All that went wrong is gathered.
pub fn remove(folder: &RunDir) -> Vec<ResidueError> {
    let mut errors = Vec::new();
    match Record::read(&folder.state_file()) {
        Ok(Some(record)) => {
            // The keeper first: it would report, and clean up after, the death of its VMM.
            errors.extend(end("keeper", Some(record.keeper)).err());
            errors.extend(end("VMM", record.vmm).err());
        }
        Ok(None) => {}
        Err(error) => errors.push(error.into()),
    }
    errors.extend(unmount_below(folder.path()));
    errors.extend(folder.remove().err().map(ResidueError::from));
    errors
}

fn end(who: &'static str, process: Option<ProcessRef>) -> Result<(), ResidueError> {
    let Some(process) = process else { return Ok(()) };
    let pid = process.pid;
    let failed = |source| ResidueError::Kill { who, pid, source };
    let Some(held) = process.open().map_err(failed)? else { return Ok(()) };
    held.kill().map_err(failed)?;
    match held.wait(PATIENCE).map_err(failed)? {
        true => Ok(()),
        false => Err(ResidueError::StillThere { who, pid }),
    }
}

/// Unmounts everything below `folder`, the latest first.
fn unmount_below(folder: &Path) -> Vec<ResidueError> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets = mount_points(&table).filter(|target| target.starts_with(folder));
    let mut targets: Vec<_> = targets.collect();
    targets.reverse();
    let unmount = |target: PathBuf| {
        umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .err()
            .map(|error| ResidueError::Unmount { target, source: error.into() })
    };
    targets.into_iter().filter_map(unmount).collect()
}

/// Field 5 of each line of mountinfo, proc(5), with its octal escapes for space, tab, line end and backslash undone.
fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| {
        let unescaped = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
        PathBuf::from(unescaped.replace("\\134", "\\"))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_dead_keepers_vmm_is_ended_and_its_folder_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunDir::new(root.path(), &"tests".parse().unwrap(), &"web".parse().unwrap());
        folder.create().unwrap();
        let mut vmm = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut dead = ProcessRef::this().unwrap();
        dead.start_ticks += 1;
        let vmm_ref = Some(ProcessRef::of(vmm.id()).unwrap());
        let record = Record { version: 1, bundle: "/".into(), keeper: dead, vmm: vmm_ref };
        record.write(&folder.state_file()).unwrap();

        assert!(!is_served(&folder));
        assert!(remove(&folder).is_empty());
        assert!(!folder.path().exists());
        assert!(!vmm.wait().unwrap().success());
        assert!(remove(&folder).is_empty(), "a second time");
    }

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = "36 35 98:0 /mnt1 /run/theca/a\\040b/m rw,noatime master:1 - ext3 /dev/root rw\n\n";
        assert_eq!(mount_points(table).collect::<Vec<_>>(), [PathBuf::from("/run/theca/a b/m")]);
    }
}
