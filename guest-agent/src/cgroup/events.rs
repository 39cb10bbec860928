//! Files of a cgroup that say when they change, such as `cgroup.events` and `memory.events`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch::watch;

/// Such a file, open.
pub struct EventFile(AsyncFd<File>);

impl EventFile {
    /// Opens and begins to watch a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        watch(File::open(path)?, Interest::PRIORITY).map(Self)
    }

    /// The content as it is. A change after this ends [`Self::changed`].
    pub fn read(&self) -> io::Result<String> {
        let mut buffer = [0; 1024];
        let length = self.0.get_ref().read_at(&mut buffer, 0)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits for a change since the last [`Self::read`].
    pub async fn changed(&mut self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

/// The number after `key` in lines of `key number`.
pub fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_whole() {
        let text = "oom 1\noom_kill 2\noom_group_kill 3\n";
        assert_eq!(value(text, "oom_kill"), Some(2));
        assert_eq!(value(text, "oom"), Some(1));
        assert_eq!(value(text, "low"), None);
    }
}
