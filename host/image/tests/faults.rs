//! What goes wrong around an import: it is killed, or the disk is full. Nothing may be left, and the next one works.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::build::{self, Compression, Layer};
use support::{erofs_reader, files_below, story};
use theca_image::{ImportOptions, Silent, Store};

const ROOT: &str = "THECA_TEST_ROOT";
const SOURCE: &str = "THECA_TEST_SOURCE";

/// An import in a process of its own, for the tests below; alone it has nothing to do. Prints the error if there is one.
#[test]
fn import_as_told() {
    let (Some(root), Some(source)) = (std::env::var_os(ROOT), std::env::var_os(SOURCE)) else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    if let Err(error) = store.import(Path::new(&source), &ImportOptions::default(), &Silent) {
        println!("refused: {}", story(&error));
    }
    println!("left: {:?}", images(Path::new(&root)));
}

/// The command for the above, under another program if one is given.
fn importer(under: &[&str], root: &Path, source: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words: Vec<String> = under.iter().map(ToString::to_string).collect();
    words.extend([
        this.display().to_string(),
        "--exact".into(),
        "import_as_told".into(),
        "--nocapture".into(),
    ]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(ROOT, root).env(SOURCE, source);
    command
}

/// A layout whose layers take a moment: many files, and some megabytes.
fn layout(folder: &Path) -> PathBuf {
    let noise = |seed: u32| -> Vec<u8> {
        (0..40_000u32).map(|i| (i.wrapping_mul(seed | 1).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    };
    let layer = |first: u32| {
        (first..first + 60)
            .fold(Layer::new(), |layer, i| layer.file(&format!("d{}/f{i}", i % 7), &noise(i)))
            .tar()
    };
    let path = folder.join("oci");
    build::write_layout(
        &path,
        &build::blobs(&[layer(0), layer(60)], Compression::Gzip),
        Some("example.org/app:1"),
    );
    path
}

/// What is in a store, without what every store has.
fn images(root: &Path) -> Vec<String> {
    let usual = ["blobs", "erofs", "tmp", "lock", "index.json"];
    files_below(&root.join("images")).into_iter().filter(|name| !usual.contains(&name.as_str())).collect()
}

#[test]
fn an_import_killed_at_any_moment_leaves_nothing_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(folder.path());
    let mut killed = 0;
    for delay in (0..24).map(|i| Duration::from_millis(i * 25)) {
        let root = folder.path().join(format!("root{}", delay.as_millis()));
        let mut child = importer(&[], &root, &source).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        killed += i32::from(!child.wait().unwrap().success());
        // The next operation, whatever it is, finds a store in order.
        let store = Store::open(&root).unwrap();
        let before = store.list().unwrap().len();
        let image = store.import(&source, &ImportOptions::default(), &Silent).unwrap().remove(0);
        assert_eq!(erofs_reader::read(&image.erofs).len(), 128, "{before} images before");
        let left = images(&root);
        assert_eq!(left.len(), 3, "one disk, a manifest and a configuration: {left:?}");
        fs::remove_dir_all(&root).unwrap();
    }
    assert!(killed > 0, "no import was slow enough to be killed");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = layout(folder.path());
    let root = folder.path().join("small");
    fs::create_dir(&root).unwrap();
    // Room for the spool only, for spool and half of the disk, and for neither.
    for size in ["6m", "8m", "1m"] {
        // In a mount namespace of its own, so that nothing can be left mounted.
        let mount = format!("mount -t tmpfs -o size={size} small '{}' && exec \"$@\"", root.display());
        let under = ["unshare", "--mount", "--map-root-user", "sh", "-c", &mount, "sh"];
        let output = importer(&under, &root, &source).output().expect("unshare (util-linux) runs");
        let words = String::from_utf8_lossy(&output.stdout);
        assert!(words.contains("refused: no space left on the disk of"), "{size}: {words}");
        assert!(words.contains("left: []"), "{size}: {words}");
    }
}
