//! `cargo xtask clean-cache`: the next run starts from nothing.

use anyhow::Result;

use crate::cache;

/// Removes every cache entry. Test hosts that are running keep the files they have open.
pub fn run() -> Result<()> {
    let root = cache::root()?;
    cache::remove(&root)?;
    println!("removed {}", root.display());
    Ok(())
}
