//! Files of a folder whose content is not trusted to stay within it.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens the regular file `inside` the folder for reading; `None` if there is none, or only through a link or a way out
/// (openat2(2), RESOLVE_BENEATH). Anything else, such as a folder that may not be looked into, is an error.
pub fn open(folder: &Path, inside: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(folder, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    // A FIFO would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = match rustix::fs::openat2(folder, inside, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO) => return Ok(None),
        opened => File::from(opened?),
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    Ok(Some(file).filter(|_| kind == FileType::RegularFile))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_without_a_link_on_the_way_are_found() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::write(folder.join("etc/hosts"), "here").unwrap();
        fs::write(parent.path().join("secret"), "secret").unwrap();
        symlink("etc", folder.join("link")).unwrap();
        symlink("../secret", folder.join("out")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let open = |inside: &str| open(&folder, Path::new(inside)).unwrap();
        let mut text = String::new();
        open("etc/hosts").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
        for nothing in
            ["", "etc", "missing", "etc/hosts/x", "link/hosts", "out", "../secret", "/etc/passwd", "fifo"]
        {
            assert!(open(nothing).is_none(), "{nothing}");
        }
        assert!(super::open(&parent.path().join("missing"), Path::new("x")).unwrap().is_none());
    }
}
