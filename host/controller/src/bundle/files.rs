//! Files of the bundle that its configuration binds into the container, such as `/etc/hosts`: their content goes to the
//! guest with the configuration.
//!
//! Only regular files below the bundle's folder are read, on a path without symbolic links: a configuration must not make
//! the keeper read any other file of the host.

use std::io::Read;
use std::path::{Path, PathBuf};

use theca_image::beneath;

use super::BundleError;
use crate::agent::SuppliedFile;

/// As many as the agent takes, and as much.
const MAX_FILES: usize = 16;
const MAX_BYTES: u64 = 256 * 1024;

/// The files that were asked for so far.
#[derive(Debug)]
pub struct Files {
    bundle: PathBuf,
    taken: Vec<SuppliedFile>,
}

impl Files {
    /// None yet, of the bundle in this folder.
    pub fn of(bundle: &Path) -> Self {
        Self { bundle: bundle.to_owned(), taken: Vec::new() }
    }

    /// Takes the file that a bind mount names and answers its absolute path; `None` if it is not one of the bundle's.
    pub fn take(&mut self, source: &str) -> Result<Option<String>, BundleError> {
        let path = self.bundle.join(source);
        let Ok(inside) = path.strip_prefix(&self.bundle) else { return Ok(None) };
        let name = path.display().to_string();
        if self.has(&name) {
            return Ok(Some(name));
        }
        let failed = |source| BundleError::Read { path: path.clone(), source };
        let Some(file) = beneath::open(&self.bundle, inside).map_err(failed)? else { return Ok(None) };
        let metadata = file.metadata().map_err(failed)?;
        let before: u64 = self.taken.iter().map(|file| file.content.len() as u64).sum();
        let mut content = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
        if self.taken.len() == MAX_FILES || before + content.len() as u64 > MAX_BYTES {
            return Err(BundleError::Unsupported(format!(
                "the bind mount of {name} is not supported: the files that a bundle shares with its container are more than \
                 {MAX_FILES}, or have more than {MAX_BYTES} bytes together"
            )));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        self.taken.push(SuppliedFile { source: name.clone(), content, mode });
        Ok(Some(name))
    }

    /// Whether the file with this absolute path was taken.
    pub fn has(&self, source: &str) -> bool {
        self.taken.iter().any(|file| file.source == source)
    }

    /// All of them.
    pub fn taken(self) -> Vec<SuppliedFile> {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_bundle_is_read() {
        let parent = tempfile::tempdir().unwrap();
        let bundle = parent.path().join("bundle");
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        std::fs::write(parent.path().join("secret"), "secret").unwrap();
        symlink("../secret", bundle.join("link")).unwrap();
        symlink("/etc", bundle.join("etc")).unwrap();
        let mut files = Files::of(&bundle);
        let outside = parent.path().join("secret").display().to_string();
        for source in ["link", "../secret", "etc/passwd", "rootfs", "", "missing", "/etc/passwd", &outside] {
            assert_eq!(files.take(source).unwrap(), None, "{source}");
        }
        assert!(files.taken().is_empty());
    }

    #[test]
    fn a_file_goes_once_and_files_are_bounded() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("a"), "a").unwrap();
        std::fs::write(bundle.path().join("large"), vec![0; 300 << 10]).unwrap();
        let mut files = Files::of(bundle.path());
        let path = files.take("a").unwrap().unwrap();
        assert_eq!(files.take(&path).unwrap(), Some(path));
        assert!(files.take("large").unwrap_err().to_string().contains("262144 bytes"));
        assert_eq!(files.taken().len(), 1);
    }
}
