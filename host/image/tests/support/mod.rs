//! What the tests of this crate share: building images by hand, and looking into EROFS images.
#![allow(dead_code, reason = "every test program uses its own part")]

pub mod build;
pub mod erofs_reader;

use std::path::Path;
use std::process::Command;

/// Runs erofs-utils' checker, optionally extracting, and panics with its words if it finds anything wrong.
pub fn fsck(image: &Path, extract_to: Option<&Path>) {
    let mut command = Command::new("fsck.erofs");
    if let Some(folder) = extract_to {
        command.arg(format!("--extract={}", folder.display()));
    }
    let output = command.arg(image).output().unwrap_or_else(|error| {
        panic!("fsck.erofs does not run ({error}): these tests need Debian's package erofs-utils")
    });
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "fsck.erofs found {image:?} damaged: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// All that lies below a folder, as relative paths, sorted: for "nothing is left behind".
pub fn files_below(folder: &Path) -> Vec<String> {
    fn walk(at: &Path, base: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            out.push(path.strip_prefix(base).unwrap().display().to_string());
            if path.is_dir() && !path.is_symlink() {
                walk(&path, base, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out
}

/// An error with all its causes on one line.
pub fn story(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
