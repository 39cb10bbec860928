//! One thecad for each state folder: a second one would fight the first over the same sandboxes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use theca_controller::sys::flock;

/// Why this thecad is not alone, or cannot know.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one runs.
    #[error(
        "another thecad{pid} serves {}: stop it first (`systemctl stop thecad`), or give this one folders of its own (--state, --root)",
        state.display()
    )]
    Held {
        /// ` (pid N)`, if it could be read.
        pid: String,
        /// The folder.
        state: PathBuf,
    },
    /// The file or its folder failed.
    #[error("failed to lock {}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Held while this value lives, and not a moment longer, however the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the state folder if need be and takes its lock.
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let path = state.join("thecad.lock");
        let failed = |source| LockError::Failed { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o711).create(state).map_err(failed)?;
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(&path);
        let mut file = open.map_err(failed)?;
        if !flock::try_lock(&file).map_err(failed)? {
            let pid = fs::read_to_string(&path).map(|pid| format!(" (pid {})", pid.trim()));
            return Err(LockError::Held { pid: pid.unwrap_or_default(), state: state.to_owned() });
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_thecad_is_told_who_the_first_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("run/theca");
        let first = Lock::take(&state).unwrap();
        let refused = Lock::take(&state).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("another thecad (pid {})", std::process::id())), "{refused}");
        drop(first);
        Lock::take(&state).unwrap();
    }
}
