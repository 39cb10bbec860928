//! What took long to make, kept under a hash of what it was made from.
//!
//! One folder per entry, `NAME-HASH`, below `$XDG_CACHE_HOME/theca` (default `~/.cache/theca`). An entry is made in a
//! folder of its own and published by one rename, so a reader sees all of it or nothing, whenever the maker died. A lock
//! file per entry keeps two makers apart: the second waits and then finds the first one's work.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::command;

/// Collects the inputs of a cache entry. Order matters; each input is framed by its length.
pub struct Key(Sha256);

impl Key {
    /// Starts with the version of the recipe: raise it when the code that makes the entry changes its result.
    pub fn new(recipe: u32) -> Self {
        Self(Sha256::new()).with(recipe.to_le_bytes())
    }

    /// Adds an input.
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    fn finish(self) -> String {
        hex::encode(&self.0.finalize()[..8])
    }
}

/// The folder of all entries. It need not exist.
pub fn root() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(
            std::env::var_os("HOME").ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME is set"))?,
        )
        .join(".cache"),
    };
    Ok(base.join("theca"))
}

/// The folder of the entry `name` for these inputs, made by `make` when it is not there yet.
///
/// `make` receives an empty folder to fill. When it fails nothing is published and its folder is removed.
pub fn entry(name: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&root()?, name, key, make)
}

/// The folder of the entry `name` for these inputs, if it was made before.
pub fn find(name: &str, key: Key) -> Result<Option<PathBuf>> {
    let published = root()?.join(format!("{name}-{}", key.finish()));
    Ok(published.is_dir().then_some(published))
}

fn entry_in(root: &Path, name: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let name = format!("{name}-{}", key.finish());
    let published = root.join(&name);
    if published.is_dir() {
        return Ok(published);
    }
    std::fs::create_dir_all(root).with_context(|| format!("failed to create {}", root.display()))?;
    let _lock = lock(&root.join(format!("{name}.lock")))?;
    if published.is_dir() {
        return Ok(published);
    }
    let making = Making(root.join(format!("{name}.making")));
    making.start()?;
    make(&making.0)?;
    std::fs::rename(&making.0, &published)
        .with_context(|| format!("failed to publish {}", published.display()))?;
    Ok(published)
}

/// Waits for the lock at `path`; the lock ends with the returned guard or with this process.
fn lock(path: &Path) -> Result<Flock<File>> {
    let open = || File::create(path).with_context(|| format!("failed to open {}", path.display()));
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => {
            eprintln!("  waiting for another xtask that holds {} …", path.display());
            Flock::lock(open()?, FlockArg::LockExclusive)
                .map_err(|(_, error)| error)
                .with_context(|| format!("failed to lock {}", path.display()))
        }
    }
}

/// A half-made entry: gone on drop unless it was renamed away.
struct Making(PathBuf);

impl Making {
    /// Removes what a maker that was killed left behind, and starts empty.
    fn start(&self) -> Result<()> {
        remove(&self.0)?;
        std::fs::create_dir(&self.0).with_context(|| format!("failed to create {}", self.0.display()))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Removes a folder, as root where a Debian root with its own users was unpacked in it.
pub fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) => command::quietly(command::as_root("rm").arg("-rf").arg("--").arg(folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_made_once_for_the_same_inputs() {
        let root = tempfile::tempdir().unwrap();
        let mut made = 0;
        for _ in 0..2 {
            let make = |folder: &Path| {
                made += 1;
                Ok(std::fs::write(folder.join("result"), "x")?)
            };
            let entry = entry_in(root.path(), "thing", Key::new(1).with("input"), make).unwrap();
            assert!(entry.join("result").is_file());
        }
        assert_eq!(made, 1);
    }

    #[test]
    fn inputs_do_not_run_into_each_other() {
        assert_ne!(Key::new(1).with("ab").with("c").finish(), Key::new(1).with("a").with("bc").finish());
        assert_ne!(Key::new(1).with("a").finish(), Key::new(2).with("a").finish());
    }

    #[test]
    fn a_failed_maker_publishes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let make = |folder: &Path| {
            std::fs::write(folder.join("half"), "x")?;
            Err(anyhow!("no"))
        };
        entry_in(root.path(), "thing", Key::new(1), make).unwrap_err();
        let left: Vec<_> =
            std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{left:?}");
    }
}
