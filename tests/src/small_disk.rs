//! A disk that is soon full.

use std::path::Path;

use tempfile::TempDir;

use crate::invocation::Invocation;

/// A file system of little size, to be `THECA_ROOT`. Dropped, it is unmounted.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Of a size as mount(8) takes it, such as `24m`.
    pub fn new(size: &str) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("failed to make a folder");
        let options = format!("size={size}");
        Invocation::new("mount", &["-t", "tmpfs", "-o", &options, "none", &folder.path().to_string_lossy()])
            .run()
            .success();
        Self(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.path()).expect("failed to ask the file system");
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Invocation::new("umount", &["--lazy", &*self.path().to_string_lossy()]).run();
    }
}
