//! Who drives a container: a lock on a file in its folder, freed by the kernel when its holder dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How often a waiting command looks again.
const RETRY: Duration = Duration::from_millis(10);

/// Held by the one command that starts, watches or removes a container. Programs it starts do not inherit it.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock if nobody has it.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Waits for the lock without a bound; only for locks held for moments.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Waits for the lock for at most `patience`; `None` if it stayed taken.
    pub async fn take_within(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = Lock::try_take(&path).unwrap().expect("nobody has it");
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert!(Lock::take_within(&path, Duration::from_millis(30)).await.unwrap().is_none());
        drop(held);
        assert!(Lock::take_within(&path, Duration::from_millis(30)).await.unwrap().is_some());
    }
}
