//! A container's writable disk: a copy of an empty ext4 file system that was made once.
//!
//! Making a file system takes tens of milliseconds and a program; copying its few blocks of metadata into a sparse file
//! takes less than one. On a file system with reflinks nothing is copied at all.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek64};

/// No smaller disk is made: the file system's own tables need room.
pub const SMALLEST: u64 = 16 << 20;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// `mke2fs` is not there.
    #[error(
        "mke2fs is missing, it makes the containers' writable disks: install e2fsprogs (or run with --read-only)"
    )]
    NoMke2fs,
    /// `mke2fs` failed.
    #[error("mke2fs could not make {path}: {message}")]
    Mke2fs {
        /// The template.
        path: PathBuf,
        /// Its standard error.
        message: String,
    },
    /// A file could not be written or read.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes an empty ext4 disk of `bytes` at `target`, which must not exist yet. Templates are kept in `templates`.
///
/// `journal`: whether the disk is to survive a crash of its guest. One that goes with its first run need not.
pub fn create(templates: &Path, target: &Path, bytes: u64, journal: bool) -> Result<(), DiskError> {
    let kind = if journal { "ext4-journal" } else { "ext4" };
    let template = templates.join(format!("{kind}-{bytes}.img"));
    let source = match File::open(&template) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_template(&template, bytes, journal)?;
            File::open(&template)
        }
        other => other,
    }
    .map_err(|source| DiskError::Io { action: "open", path: template, source })?;
    let failed = |action| move |source| DiskError::Io { action, path: target.to_owned(), source };
    let copy = OpenOptions::new().write(true).create_new(true).open(target).map_err(failed("create"))?;
    copy_sparse(&source, &copy, bytes).map_err(failed("fill"))
}

/// Makes the template beside its place and moves it there, so that two commands at once do no harm.
fn make_template(template: &Path, bytes: u64, journal: bool) -> Result<(), DiskError> {
    let failed = |action| move |source| DiskError::Io { action, path: template.to_owned(), source };
    let next = template.with_extension(format!("{}.next", std::process::id()));
    let raw_path = template.with_extension(format!("{}.raw", std::process::id()));
    let outcome = (|| {
        if let Some(folder) = template.parent() {
            fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        }
        let raw = File::create(&raw_path).map_err(failed("create"))?;
        raw.set_len(bytes).map_err(failed("size"))?;
        format(&raw_path, journal)?;
        // mke2fs reserves blocks for the inode tables; a copy of its data alone has them as holes.
        let raw = File::open(&raw_path).map_err(failed("reopen"))?;
        copy_sparse(&raw, &File::create(&next).map_err(failed("create"))?, bytes).map_err(failed("fill"))?;
        fs::rename(&next, template).map_err(failed("move into place"))
    })();
    // On the way out with the outcome; a file that stays is overwritten by the next attempt.
    let _ = (fs::remove_file(&raw_path), fs::remove_file(&next));
    outcome
}

/// The inode tables are left sparse and marked as zeroed, or the guest would spend its first seconds writing zeros; with
/// checksums mke2fs also leaves the bitmaps of unused groups unwritten, which makes 10 GiB a copy of 64 KiB.
fn format(path: &Path, journal: bool) -> Result<(), DiskError> {
    let journal = if journal { "has_journal" } else { "^has_journal" };
    let mke2fs = |program: &str| {
        Command::new(program)
            .args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "theca"])
            .args(["-O", &format!("{journal},^resize_inode,^64bit,sparse_super2,metadata_csum")])
            .args(["-E", "lazy_itable_init=0,nodiscard,root_owner=0:0,num_backup_sb=0"])
            .arg(path)
            .stdin(Stdio::null())
            .output()
    };
    let output = ["mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"]
        .iter()
        .map(|program| mke2fs(program))
        .find(|output| !matches!(output, Err(error) if error.kind() == io::ErrorKind::NotFound))
        .ok_or(DiskError::NoMke2fs)?
        .map_err(|source| DiskError::Io { action: "run mke2fs on", path: path.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DiskError::Mke2fs { path: path.to_owned(), message })
}

/// Copies what `source` has data for; holes stay holes.
fn copy_sparse(source: &File, target: &File, bytes: u64) -> io::Result<()> {
    target.set_len(bytes)?;
    let end = i64::try_from(bytes).map_err(io::Error::other)?;
    let mut position = 0;
    while position < end {
        let data = match lseek64(source, position, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = lseek64(source, data, Whence::SeekHole)?;
        copy_range(source, target, data, hole.min(end))?;
        position = hole;
    }
    Ok(())
}

fn copy_range(source: impl AsFd + Copy, target: impl AsFd + Copy, from: i64, to: i64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (from, from);
    while read_at < to {
        let wanted = usize::try_from(to - read_at).map_err(io::Error::other)?;
        if copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), wanted)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn a_copy_has_the_data_and_keeps_the_holes() {
        let folder = tempfile::tempdir().unwrap();
        let source = File::create_new(folder.path().join("a")).unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"first", 0).unwrap();
        source.write_all_at(b"last", (64 << 20) - 4).unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        copy_sparse(&File::open(source).unwrap(), &File::create_new(&target).unwrap(), 64 << 20).unwrap();

        let target = File::open(target).unwrap();
        let mut last = [0; 4];
        target.read_exact_at(&mut last, (64 << 20) - 4).unwrap();
        assert_eq!(&last, b"last");
        let metadata = target.metadata().unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    /// A number of the file system's superblock, which begins at 1024.
    fn superblock(disk: &File, offset: u64) -> u16 {
        let mut bytes = [0; 2];
        disk.read_exact_at(&mut bytes, 1024 + offset).unwrap();
        u16::from_le_bytes(bytes)
    }

    #[test]
    fn a_disk_is_an_ext4_file_system_of_the_size_asked_for() {
        const MAGIC: u64 = 0x38;
        const COMPATIBLE_FEATURES: u64 = 0x5c;
        const HAS_JOURNAL: u16 = 4;
        let folder = tempfile::tempdir().unwrap();
        let templates = folder.path().join("templates");
        for journal in [false, true] {
            let target = folder.path().join(format!("{journal}.img"));
            create(&templates, &target, 1 << 30, journal).unwrap();
            let disk = File::open(&target).unwrap();
            assert_eq!(superblock(&disk, MAGIC), 0xef53);
            assert_eq!(superblock(&disk, COMPATIBLE_FEATURES) & HAS_JOURNAL != 0, journal);
            assert_eq!(disk.metadata().unwrap().len(), 1 << 30);
            assert!(disk.metadata().unwrap().blocks() * 512 < 1 << 20, "mostly holes");
            let again = create(&templates, &target, 1 << 30, journal);
            assert!(again.is_err(), "an existing disk is never overwritten");
        }
        assert_eq!(fs::read_dir(&templates).unwrap().count(), 2);
    }
}
