//! Files that come with a request, for bind mounts whose source is on the host: `/etc/hosts` and its like.
//!
//! They are on a small tmpfs of their own, because a container may write to what is bound into it and must not fill what
//! the agent needs.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use prost::bytes::Bytes;

use super::{Attempt, Result, Rootfs, make_folder};

/// Room for what comes and for what a container adds.
const OPTIONS: &str = "mode=700,size=1m,nr_inodes=64";

/// A file and what names it.
#[derive(Clone, Debug)]
pub struct SuppliedFile {
    /// What bind mounts name.
    pub source: PathBuf,
    /// What is in it.
    pub content: Bytes,
    /// Permission bits.
    pub mode: u32,
}

impl Rootfs {
    /// Writes files for this container's bind mounts.
    pub fn supply(&mut self, files: &[SuppliedFile]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let folder = self.folder.join("files");
        make_folder(&folder)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        self.add_mount("tmpfs", &folder, "tmpfs", flags, OPTIONS)?;
        for file in files {
            let path = folder.join(self.supplied.len().to_string());
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(file.mode & 0o777);
            options
                .open(&path)
                .and_then(|mut written| written.write_all(&file.content))
                .attempt(|| format!("write {} for {}", path.display(), file.source.display()))?;
            self.supplied.push(file.source.clone());
        }
        Ok(())
    }

    /// Where the file with this source is in the guest.
    pub fn supplied(&self, source: &Path) -> Option<PathBuf> {
        let number = self.supplied.iter().position(|known| known == source)?;
        Some(self.folder.join("files").join(number.to_string()))
    }
}
