//! What goes into a test host and what comes out: tar archives on raw disks, both files without a name.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Job;
use crate::command;

/// Where relative paths in the test host start: the command's working folder.
const HOME: &str = "/root";
/// Where the test host's own init finds what to do.
const ORDERS: &str = "run/testbed";
const RESULTS_SIZE: u64 = 16 << 30;
const SECTOR: u64 = 512;

/// One file or folder to copy, in whichever direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    from: PathBuf,
    to: PathBuf,
}

impl Copy {
    /// Copies `from` to `to`.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { from: from.into(), to: to.into() }
    }

    /// Reads a `--with SRC[:DST]`: SRC is here, DST in the test host.
    pub fn into_host(argument: &str) -> Result<Self> {
        let (from, to) = split(argument)?;
        let from =
            from.canonicalize().with_context(|| format!("--with {argument}: no {}", from.display()))?;
        Ok(Self { to: inside(&to)?, from })
    }

    /// Reads an `--out SRC[:DST]`: SRC is in the test host, DST here.
    pub fn out_of_host(argument: &str) -> Result<Self> {
        let (from, to) = split(argument)?;
        Ok(Self { from: inside(&from)?, to })
    }
}

/// Splits SRC[:DST]; a DST that is missing or ends with a slash gets SRC's last name.
fn split(argument: &str) -> Result<(PathBuf, PathBuf)> {
    let (from, to) = argument.split_once(':').unwrap_or((argument, ""));
    let mut to = PathBuf::from(to);
    if to.as_os_str().is_empty() || to.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let name =
            Path::new(from).file_name().with_context(|| format!("{argument}: which name should it get?"))?;
        to.push(name);
    }
    Ok((PathBuf::from(from), to))
}

/// A path in the test host, absolute and plain.
fn inside(path: &Path) -> Result<PathBuf> {
    let path = Path::new(HOME).join(path);
    if path.components().any(|part| part == Component::ParentDir) {
        bail!("{} must not contain ..", path.display());
    }
    Ok(path)
}

/// Packs the job's files and orders as the archive that the test host unpacks over its root.
pub fn pack(job: &Job) -> Result<File> {
    let mut archive = tar::Builder::new(tempfile::tempfile()?);
    archive.follow_symlinks(false);
    // busybox, which unpacks it, does not know sparse files.
    archive.sparse(false);
    for copy in &job.with {
        let name = copy.to.strip_prefix("/").unwrap_or(&copy.to);
        let add = if copy.from.is_dir() {
            archive.append_dir_all(name, &copy.from)
        } else {
            archive.append_path_with_name(&copy.from, name)
        };
        add.with_context(|| format!("failed to pack {}", copy.from.display()))?;
    }
    let words =
        |words: &mut dyn Iterator<Item = &str>| words.map(command::quote).collect::<Vec<_>>().join(" ");
    let orders = [
        ("init", include_str!("guest/init.sh").to_owned()),
        ("command", format!("exec {}\n", words(&mut job.command.iter().map(String::as_str)))),
        (
            "results",
            words(&mut job.out.iter().map(|copy| copy.from.to_str().unwrap_or("/").trim_start_matches('/'))),
        ),
    ];
    for (name, text) in orders {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, format!("{ORDERS}/{name}"), text.as_bytes())?;
    }
    let mut disk = archive.into_inner()?;
    disk.flush()?;
    let size = disk.stream_position()?;
    disk.set_len(size.next_multiple_of(SECTOR))?;
    Ok(disk)
}

/// An empty disk for results.
pub fn results_disk() -> Result<File> {
    let disk = tempfile::tempfile()?;
    disk.set_len(RESULTS_SIZE)?;
    Ok(disk)
}

/// Takes the asked results off the disk. Everything is unpacked aside first, so that the test host decides no path here.
pub fn unpack(disk: &File, wanted: &[Copy]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut disk = disk.try_clone()?;
    disk.seek(SeekFrom::Start(0))?;
    for copy in wanted {
        let parent =
            copy.to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
    }
    let aside = tempfile::tempdir()?;
    let mut archive = tar::Archive::new(disk);
    archive.set_preserve_mtime(true);
    archive.unpack(aside.path()).context("failed to read the results disk")?;
    for copy in wanted {
        let from = aside.path().join(copy.from.strip_prefix("/").unwrap_or(&copy.from));
        if !from.exists() {
            bail!("--out: the command left no {}", copy.from.display());
        }
        let mut copying = std::process::Command::new("cp");
        command::quietly(copying.args(["-a", "-T", "--"]).arg(&from).arg(&copy.to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_destination_keeps_its_name() {
        assert_eq!(Copy::out_of_host("/var/log/x.log").unwrap(), Copy::new("/var/log/x.log", "x.log"));
        assert_eq!(
            Copy::out_of_host("report.json:out/").unwrap(),
            Copy::new("/root/report.json", "out/report.json")
        );
        let here = Path::new("Cargo.toml").canonicalize().unwrap();
        assert_eq!(Copy::into_host("Cargo.toml").unwrap(), Copy::new(&here, "/root/Cargo.toml"));
        assert_eq!(Copy::into_host("Cargo.toml:/tmp/").unwrap(), Copy::new(&here, "/tmp/Cargo.toml"));
    }

    #[test]
    fn a_path_that_leaves_its_place_or_is_not_there_is_refused() {
        assert!(Copy::out_of_host("../x").is_err());
        assert!(Copy::into_host("no/such/file").is_err());
    }
}
