//! Host folders as images: what `--rootfs DIR` boots from.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use support::{erofs_reader, fsck, story};
use theca_image::erofs::write_folder;

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn image(&self) -> Result<PathBuf, String> {
        let path = self.folder.path().join("image.erofs");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        write_folder(&self.root(), &file).map_err(|error| story(&error))?;
        fsck(&path, None);
        Ok(path)
    }
}

#[test]
fn a_folder_is_kept_as_it_is() {
    let fixture = Fixture::new();
    let root = fixture.root();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/tool"), vec![9; 5000]).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("tool2")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/passwd", root.join("abs")).unwrap();
    setxattr(root.join("usr"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    setxattr(root.join("tool2"), "user.file", b"", XattrFlags::empty()).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());

    let files = erofs_reader::read(&fixture.image().unwrap());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["", "abs", "bin", "pipe", "socket", "tool2", "usr", "usr/bin", "usr/bin/tool"]);
    let tool = &files["usr/bin/tool"];
    let stat = fs::metadata(root.join("usr/bin/tool")).unwrap();
    assert_eq!((tool.mode, tool.links, &tool.data[..]), (0o104_711, 2, &[9; 5000][..]));
    assert_eq!((tool.uid, tool.mtime), (stat.uid(), (stat.mtime(), stat.mtime_nsec() as u32)));
    assert_eq!(files["tool2"].nid, tool.nid);
    assert_eq!(tool.xattrs["user.file"], b"");
    assert_eq!(files["usr"].xattrs["user.note"], b"kept");
    assert_eq!(files["abs"].data, b"/etc/passwd");
    assert_eq!((files["pipe"].mode, files["socket"].mode & 0o170_000), (0o010_600, 0o140_000));
}

#[test]
fn devices_and_capabilities_need_root_to_make_and_are_kept() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make devices");
        return;
    }
    let fixture = Fixture::new();
    let root = fixture.root();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3)).unwrap();
    mknodat(CWD, root.join("disk"), FileType::BlockDevice, Mode::from(0o660), makedev(259, 300)).unwrap();
    fs::write(root.join("ping"), "elf").unwrap();
    // Before the capability, which a change of owner takes away.
    std::os::unix::fs::chown(root.join("ping"), Some(100_000), Some(200_000)).unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    setxattr(root.join("ping"), "security.capability", capability, XattrFlags::empty()).unwrap();
    setxattr(root.join("ping"), "trusted.overlay.redirect", b"/secret", XattrFlags::empty()).unwrap();
    let files = erofs_reader::read(&fixture.image().unwrap());
    assert_eq!(files["null"].device, 0x103);
    assert_eq!(files["disk"].device, (300 & 0xff) | 259 << 8 | (300 & !0xff) << 12);
    assert_eq!(files["ping"].xattrs.keys().collect::<Vec<_>>(), ["security.capability"]);
    assert_eq!((files["ping"].uid, files["ping"].gid), (100_000, 200_000));
}

#[test]
fn another_mount_shows_as_an_empty_folder() {
    let fixture = Fixture::new();
    let root = fixture.root();
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    let image = fixture.folder.path().join("image.erofs");
    File::create(&image).unwrap();
    // A mount namespace of its own, so that nothing can be left mounted.
    let script = format!(
        "mount -t proc proc '{0}/proc' && exec \"$TOOL\" '{0}' '{1}'",
        root.display(),
        image.display()
    );
    let tool = std::env::current_exe().unwrap();
    let status = std::process::Command::new("unshare")
        .args(["--mount", "--map-root-user", "--pid", "--fork", "sh", "-c"])
        .arg(script.replace(
            "\"$TOOL\"",
            &format!("'{}' --exact write_the_named_folder --nocapture --", tool.display()),
        ))
        .env("THECA_TEST_FOLDER", &root)
        .env("THECA_TEST_IMAGE", &image)
        .status()
        .expect("unshare (util-linux) runs");
    assert!(status.success());
    let files = erofs_reader::read(&image);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["", "file", "proc"]);
}

/// The inside of the test above; alone it has nothing to do.
#[test]
fn write_the_named_folder() {
    let (Some(folder), Some(image)) =
        (std::env::var_os("THECA_TEST_FOLDER"), std::env::var_os("THECA_TEST_IMAGE"))
    else {
        return;
    };
    let file = File::options().read(true).write(true).open(image).unwrap();
    write_folder(Path::new(&folder), &file).unwrap();
}

/// Says that it is over when it is dropped: a test that fails ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_folder_that_changes_meanwhile_gives_an_image_or_says_what_changed() {
    let fixture = Fixture::new();
    let root = fixture.root();
    for i in 0..200 {
        fs::create_dir(root.join(format!("d{i}"))).unwrap();
        fs::write(root.join(format!("d{i}/f")), vec![1; 3000]).unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in (0..200).cycle() {
                let folder = root.join(format!("d{i}"));
                fs::remove_dir_all(&folder).unwrap();
                symlink("/etc", &folder).unwrap();
                fs::remove_file(&folder).unwrap();
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("f"), vec![1; 3000]).unwrap();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let over = Over(&stop);
        let mut taken = 0;
        for _ in 0..30 {
            match fixture.image() {
                Ok(image) => {
                    taken += 1;
                    let names: Vec<String> = erofs_reader::read(&image).into_keys().collect();
                    assert!(
                        !names.iter().any(|name| name.contains("passwd")),
                        "followed a symlink out of the folder"
                    );
                }
                Err(words) => assert!(words.contains("changed while the folder was read"), "{words}"),
            }
        }
        drop(over);
        println!("{taken} of 30 images could be taken");
    });
}

#[test]
fn what_is_no_folder_is_refused() {
    let fixture = Fixture::new();
    fs::remove_dir(fixture.root()).unwrap();
    assert!(fixture.image().unwrap_err().contains("failed to open folder"));
    fs::write(fixture.root(), "file").unwrap();
    assert!(fixture.image().unwrap_err().contains("Not a directory"));
}
