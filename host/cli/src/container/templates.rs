//! Empty ext4 file systems, one for each size that was asked for lately.
//!
//! Each is a sparse file of some 64 KiB; only the [`KEPT`] used last are kept.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::disk::{DiskError, copy_sparse};

/// How many stay when another one is made.
const KEPT: usize = 16;
/// What is unfinished for so long was left by a command that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Opens the template of a size, made now if it is not there.
pub fn open(templates: &Path, bytes: u64, journal: bool) -> Result<File, DiskError> {
    let kind = if journal { "ext4-journal" } else { "ext4" };
    let template = templates.join(format!("{kind}-{bytes}.img"));
    let file = match File::open(&template) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_template(&template, bytes, journal)?;
            let made = File::open(&template);
            sweep(templates);
            made
        }
        other => other,
    }
    .map_err(|source| DiskError::Io { action: "open", path: template, source })?;
    // The sweep's measure. Where it cannot be set, a template is made anew now and then.
    let _ = file.set_modified(SystemTime::now());
    Ok(file)
}

/// Removes what was not used for longest, and what was never finished. Whoever has one open keeps it; what cannot be removed
/// now is tried again next time.
fn sweep(templates: &Path) {
    let entries = fs::read_dir(templates).into_iter().flatten().flatten();
    let dated = entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())));
    let (mut finished, unfinished): (Vec<_>, Vec<_>) =
        dated.partition(|(_, path)| path.extension().is_some_and(|extension| extension == "img"));
    finished.sort_unstable_by(|one, other| other.cmp(one));
    let abandoned = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > ABANDONED);
    let unfinished = unfinished.into_iter().filter(|(at, _)| abandoned(at));
    for (_, path) in finished.into_iter().skip(KEPT).chain(unfinished) {
        let _ = fs::remove_file(path);
    }
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
        raw.set_len(bytes).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => {
                DiskError::TooLarge { path: template.to_owned(), gib: bytes >> 30 }
            }
            _ => failed("size")(source),
        })?;
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::super::disk::create;
    use super::*;

    #[test]
    fn templates_that_nobody_uses_any_more_go() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, age: u64| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        (0..=KEPT as u64).for_each(|age| made(&format!("ext4-{age}.img"), age * 1_000_000));
        made("ext4-5.77.raw", 4000);
        made("ext4-5.78.next", 4);
        sweep(folder.path());
        let there = |name: &str| folder.path().join(name).exists();
        assert!(there("ext4-0.img") && there(&format!("ext4-{}.img", KEPT - 1)) && there("ext4-5.78.next"));
        assert!(!there(&format!("ext4-{KEPT}.img")) && !there("ext4-5.77.raw"));
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
