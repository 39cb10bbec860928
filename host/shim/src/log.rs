//! The keeper's log: a file in the sandbox's folder that stays small. It goes with the sandbox.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use tracing::Level;

/// Bound of the log. At it the log begins anew: the newest lines are the ones of use.
const MAX_BYTES: u64 = 256 * 1024;

/// Sends what the keeper logs to `path` from now on.
pub fn begin(path: &Path, debug: bool) -> anyhow::Result<()> {
    let log = BoundedLog::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let level = if debug { Level::DEBUG } else { Level::INFO };
    tracing_subscriber::fmt()
        .with_writer(Mutex::new(log))
        .with_ansi(false)
        .with_target(false)
        .with_max_level(level)
        .try_init()
        .map_err(|error| anyhow::anyhow!("failed to begin the log: {error}"))
}

struct BoundedLog {
    file: File,
    length: u64,
}

impl BoundedLog {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Write for BoundedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length + bytes.len() as u64 > MAX_BYTES {
            self.file.set_len(0)?;
            self.length = 0;
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_within_its_bound_and_has_the_newest_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.log");
        let mut log = BoundedLog::open(&path).unwrap();
        for number in 0..20_000 {
            writeln!(log, "line {number} of a keeper that has much to say").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() as u64 <= MAX_BYTES);
        assert!(text.ends_with("line 19999 of a keeper that has much to say\n"));
    }
}
