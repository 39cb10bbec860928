//! `state.json`: enough for another process to clean up after a keeper that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::pidfd::ProcessRef;

/// Why the record could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct RecordError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Who runs a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Form of this document: 1.
    pub version: u32,
    /// The bundle that `start` was called in.
    pub bundle: PathBuf,
    /// The keeper itself.
    pub keeper: ProcessRef,
    /// Its VMM, from its start on.
    pub vmm: Option<ProcessRef>,
}

impl Record {
    /// Replaces the document at `path` in one step: a reader sees the old or the new one, never half.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        let failed = |source| RecordError { action: "write", path: path.to_owned(), source };
        let fresh = path.with_extension("json.new");
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        fs::write(&fresh, text).map_err(failed)?;
        fs::rename(&fresh, path).map_err(failed)
    }

    /// Reads the document; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        let failed = |source| RecordError { action: "read", path: path.to_owned(), source };
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_lies_about() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert!(Record::read(&path).unwrap().is_none());
        let keeper = ProcessRef::this().unwrap();
        let mut record = Record { version: 1, bundle: "/bundle".into(), keeper, vmm: None };
        record.write(&path).unwrap();
        record.vmm = Some(keeper);
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn half_a_record_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(&path, "{\"version\":1,").unwrap();
        assert!(Record::read(&path).unwrap_err().to_string().ends_with("state.json"));
    }
}
