//! The file of `--cidfile`: there once the container is, and gone if that does not come to be, whatever ends the command.
//!
//! The record names it before it is written, and until the container is there to stay, so that whoever removes what a killed
//! command has left finds it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::id::ContainerId;

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the id to {path}; give --cidfile a new file in a folder that is there")]
pub struct CidfileError {
    path: PathBuf,
    source: io::Error,
}

/// Writes a new file.
pub fn write(path: &Path, id: &ContainerId) -> Result<(), CidfileError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|file| fill(path, file, id))
        .map_err(|source| CidfileError { path: path.to_owned(), source })
}

/// Writes the id to a file that has just been made. A full disk leaves none without it.
fn fill(path: &Path, mut file: impl Write, id: &ContainerId) -> io::Result<()> {
    file.write_all(id.as_str().as_bytes()).inspect_err(|_| {
        // The write's failure is the one to tell.
        let _ = fs::remove_file(path);
    })
}

/// Removes the file, unless it has come to name something else.
pub fn remove(path: &Path, id: &ContainerId) {
    let names_it = || -> io::Result<bool> {
        let mut text = String::new();
        // A FIFO in its place would keep whoever opens it waiting.
        if fs::symlink_metadata(path)?.is_file() {
            fs::File::open(path)?.take(id.as_str().len() as u64 + 2).read_to_string(&mut text)?;
        }
        Ok(text.trim_end() == id.as_str())
    };
    if names_it().unwrap_or(false) {
        // The container that it names is going too.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_only_while_it_names_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cid");
        let [one, other] = [(); 2].map(|()| ContainerId::random().unwrap());
        write(&path, &one).unwrap();
        assert!(write(&path, &other).is_err(), "it is there");
        remove(&path, &other);
        assert_eq!(fs::read_to_string(&path).unwrap(), one.as_str());
        remove(&path, &one);
        assert!(!path.exists());
        remove(&path, &one);
        fs::write(&path, "").unwrap();
        remove(&path, &one);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cid");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        drop(file);
        assert!(fill(&path, full, &ContainerId::random().unwrap()).is_err());
        assert!(!path.exists());
    }
}
