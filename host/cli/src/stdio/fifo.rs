//! The FIFOs by which a process's stdio passes from the keeper to a command.
//!
//! They are made in the container's folder and unlinked as soon as both sides have them open, so that not even a killed
//! command leaves one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// The FIFOs of one process: their paths, and this side's ends.
#[derive(Debug, Default)]
pub struct Fifos {
    paths: [Option<PathBuf>; 3],
    /// Where input is written.
    pub stdin: Option<File>,
    /// Where output is read.
    pub stdout: Option<File>,
    /// Where error output is read.
    pub stderr: Option<File>,
}

impl Fifos {
    /// Makes FIFOs in `folder`, their names beginning with `prefix`, and opens this side of each: output for reading, input
    /// for writing. The keeper may open its side before or after.
    pub fn make(folder: &Path, prefix: &str, stdin: bool, stdout: bool, stderr: bool) -> io::Result<Self> {
        let mut fifos = Self::default();
        fs::create_dir_all(folder)?;
        if stdin {
            // Both ways: opening for writing alone waits for a reader.
            fifos.stdin = Some(fifos.make_one(0, folder.join(format!("{prefix}stdin")), true)?);
        }
        if stdout {
            fifos.stdout = Some(fifos.make_one(1, folder.join(format!("{prefix}stdout")), false)?);
        }
        if stderr {
            fifos.stderr = Some(fifos.make_one(2, folder.join(format!("{prefix}stderr")), false)?);
        }
        Ok(fifos)
    }

    fn make_one(&mut self, index: usize, path: PathBuf, write: bool) -> io::Result<File> {
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let path = self.paths[index].insert(path);
        OpenOptions::new().read(true).write(write).custom_flags(nix::libc::O_NONBLOCK).open(path)
    }

    /// The path of FIFO 0, 1 or 2 as a request carries it: empty for none.
    pub fn path(&self, index: usize) -> String {
        self.paths[index].as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// Takes the names away: both sides have the FIFOs open.
    pub fn unlink(&mut self) {
        for path in self.paths.iter_mut().filter_map(Option::take) {
            // It may be gone with the container's folder.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Fifos {
    fn drop(&mut self) {
        self.unlink();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_far_side_can_open_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut fifos = Fifos::make(folder.path(), "x-", true, true, false).unwrap();
        assert!(fifos.path(2).is_empty() && fifos.path(0).ends_with("x-stdin"));
        let mut far_stdin = File::open(fifos.path(0)).unwrap();
        let mut far_stdout = OpenOptions::new().write(true).open(fifos.path(1)).unwrap();
        fifos.unlink();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fifos.stdin.take().unwrap().write_all(b"in").unwrap();
        let mut text = String::new();
        far_stdin.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in");
        far_stdout.write_all(b"out").unwrap();
        drop(far_stdout);
        text.clear();
        fifos.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "out");
    }

    #[test]
    fn unused_fifos_go_with_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        drop(Fifos::make(folder.path(), "", true, true, true).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
