//! Folders and files that nobody but this process's user may read: containers' specifications have their environment in them, and
//! what lies around them can be passed through by everybody.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// Makes a folder and what is missing above it.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// Closes a folder that an earlier version has left open, if it is there.
pub fn close_folder(path: &Path) -> io::Result<()> {
    match fs::set_permissions(path, Permissions::from_mode(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// How a file is opened that is written anew.
pub fn fresh_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE);
    options
}

/// Writes a whole file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fresh_file().open(path)?.write_all(bytes)
}
