//! The kernel's source: Debian's `linux-source-6.12`, as apt verified it.
//!
//! The package is in Debian 13, and in Debian 12's backports. apt checks it against its signed index; the SHA-256 of that
//! index is compared once more here and kept beside the package, and is what the cache key of the kernel is made from. A
//! package that was fetched stays in use until the cache is cleaned, so that later builds need no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{apt, cache, command};

const PACKAGE: &str = "linux-source-6.12";
/// Suites that carry it, the freshest first.
const SUITES: [&str; 2] = ["trixie", "bookworm-backports"];
const RECORD: &str = "source.json";

/// A source package in the cache.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    folder: PathBuf,
    record: Record,
}

/// What the signed index said of the package.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: String,
    sha256: String,
    file: String,
}

impl Source {
    /// The package that an earlier build left in the cache, else the newest that the mirror has.
    pub fn find() -> Result<Source> {
        Source::open(cache::entry("linux-source", cache::Key::new(1).with(PACKAGE), fetch)?)
    }

    fn open(folder: PathBuf) -> Result<Source> {
        let path = folder.join(RECORD);
        let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let record = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not as it was written: run clean-cache", path.display()))?;
        Ok(Source { folder, record })
    }

    /// Debian's version, such as `6.12.107-1`.
    pub fn version(&self) -> &str {
        &self.record.version
    }

    /// SHA-256 of the package.
    pub fn sha256(&self) -> &str {
        &self.record.sha256
    }

    /// Checks the package again and unpacks the kernel tree, Makefile and all, into the folder `target`.
    pub fn unpack(&self, target: &Path) -> Result<()> {
        let package = self.folder.join(&self.record.file);
        verify(&package, &self.record.sha256)?;
        // One archive inside another: the outer passes the inner's bytes on, nothing is stored twice.
        let script = r#"set -o pipefail
            dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | tar -xJ --strip-components=1 -C "$3""#;
        let inner = format!("./usr/src/{PACKAGE}.tar.xz");
        let mut unpack = Command::new("bash");
        unpack.args(["-c", script, "unpack"]).arg(&package).arg(inner).arg(target);
        command::quietly(&mut unpack).with_context(|| format!("failed to unpack {}", package.display()))
    }
}

fn fetch(into: &Path) -> Result<()> {
    let mut failures = Vec::new();
    for suite in SUITES {
        match fetch_from(suite, into) {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("  {suite}: {error:#}")),
        }
    }
    bail!("no suite of this machine's Debian mirror gave {PACKAGE}:\n{}", failures.join("\n"))
}

fn fetch_from(suite: &str, into: &Path) -> Result<()> {
    let lists = apt::Suite::new(suite)?.lists()?;
    let (version, sha256) = (lists.field(PACKAGE, "Version")?, lists.field(PACKAGE, "SHA256")?);
    let fetched = lists.download(&[&format!("{PACKAGE}={version}")], into)?;
    let [package] = fetched.as_slice() else { bail!("apt fetched {fetched:?} in place of one package") };
    verify(package, &sha256)?;
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let record = serde_json::to_vec_pretty(&Record { version, sha256, file })?;
    fs::write(into.join(RECORD), record).with_context(|| format!("failed to write in {}", into.display()))
}

fn verify(file: &Path, expected: &str) -> Result<()> {
    let context = || format!("failed to read {}", file.display());
    let mut hasher = Sha256::new();
    std::io::copy(&mut fs::File::open(file).with_context(context)?, &mut hasher).with_context(context)?;
    let found = hex::encode(hasher.finalize());
    ensure!(
        found == expected,
        "{} has SHA-256 {found}, but Debian's index says {expected}: run clean-cache and try again",
        file.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.deb");
        fs::write(&file, "abc").unwrap();
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        verify(&file, right).unwrap();
        fs::write(&file, "abd").unwrap();
        let error = verify(&file, right).unwrap_err();
        assert!(error.to_string().contains("Debian's index says"), "{error}");
    }

    #[test]
    fn the_record_survives_and_names_version_and_hash() {
        let folder = tempfile::tempdir().unwrap();
        let record = Record { version: "6.12.1-1".into(), sha256: "ab".into(), file: "a.deb".into() };
        fs::write(folder.path().join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();
        let source = Source::open(folder.path().to_owned()).unwrap();
        assert_eq!((source.version(), source.sha256()), ("6.12.1-1", "ab"));
    }

    #[test]
    fn a_record_with_other_fields_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RECORD), r#"{"version":"1"}"#).unwrap();
        let error = Source::open(folder.path().to_owned()).unwrap_err();
        assert!(format!("{error:#}").contains("clean-cache"), "{error:#}");
    }
}
