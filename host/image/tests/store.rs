//! Images into the store and out of it again, from every kind of source on disk.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use support::build::{self, Compression, Layer};
use support::{erofs_reader, files_below, fsck, story};
use theca_image::{Digest, Image, ImportOptions, Progress, RemoveOptions, Silent, Step, Store, StoreError};

/// A store in a folder of its own, and room for sources beside it.
struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("root")).unwrap();
        Self { folder, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stored(&self) -> Vec<String> {
        files_below(&self.path("root/images"))
    }

    fn import(&self, path: &Path) -> Result<Vec<Image>, StoreError> {
        self.store.import(path, &ImportOptions::default(), &Silent)
    }

    fn import_as(&self, path: &Path, name: &str) -> Image {
        let options = ImportOptions { name: Some(name.parse().unwrap()), ..ImportOptions::default() };
        self.store.import(path, &options, &Silent).unwrap().remove(0)
    }

    /// An OCI layout of these layers.
    fn layout(&self, name: &str, layers: &[Vec<u8>], how: Compression) -> PathBuf {
        let path = self.path(name);
        build::write_layout(&path, &build::blobs(layers, how), Some("example.org/team/app:1"));
        path
    }
}

fn two_layers() -> Vec<Vec<u8>> {
    let lower = Layer::new()
        .dir("etc/")
        .file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
        .file("etc/old", b"x")
        .file("bin/tool", &[7; 10_000])
        .tar();
    let upper = Layer::new()
        .file("etc/.wh.old", b"")
        .symlink("sbin", "bin")
        .hard_link("bin/same", "bin/tool")
        .pax(&[("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0"), ("mtime", b"1500000000.25")])
        .file("bin/ping", b"elf")
        .device("dev/null", 1, 3)
        .tar();
    vec![lower, upper]
}

fn assert_holds_two_layers(image: &Image) {
    fsck(&image.erofs, None);
    let files = erofs_reader::read(&image.erofs);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected =
        ["", "bin", "bin/ping", "bin/same", "bin/tool", "dev", "dev/null", "etc", "etc/passwd", "sbin"];
    assert_eq!(names, expected);
    assert_eq!(files["bin/same"].nid, files["bin/tool"].nid);
    assert_eq!(files["bin/tool"].data, [7; 10_000]);
    assert_eq!(files["bin/ping"].xattrs["security.capability"], b"\x01\0\0\x02\0\x04\0\0");
    assert_eq!(files["bin/ping"].mtime, (1_500_000_000, 250_000_000));
    assert_eq!((files["dev/null"].mode, files["dev/null"].device), (0o020_644, 0x103));
    assert_eq!(files["sbin"].data, b"bin");
}

#[test]
fn a_layout_folder_with_layers_of_any_compression() {
    for how in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
        let fixture = Fixture::new();
        let image = fixture.import(&fixture.layout("oci", &two_layers(), how)).unwrap().remove(0);
        assert_holds_two_layers(&image);
        assert_eq!(image.names[0].to_string(), "example.org/team/app:1");
        let config = image.config().unwrap();
        assert_eq!(config.user().as_deref(), Some("7"));
        assert_eq!(config.cmd().as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(config.stop_signal().as_deref(), Some("SIGINT"));
    }
}

#[test]
fn a_layout_as_a_tar_plain_or_compressed() {
    let fixture = Fixture::new();
    let tar = build::tar_of(&fixture.layout("oci", &two_layers(), Compression::Gzip));
    for (file, how) in
        [("a.tar", Compression::Plain), ("a.tar.gz", Compression::Gzip), ("a.tar.zst", Compression::Zstd)]
    {
        let fixture = Fixture::new();
        fs::write(fixture.path(file), build::compress(&tar, how)).unwrap();
        assert_holds_two_layers(&fixture.import(&fixture.path(file)).unwrap()[0]);
    }
}

#[test]
fn a_docker_archive_with_all_its_tags() {
    let fixture = Fixture::new();
    let archive = build::docker_archive(&two_layers(), &["app:1", "app:latest", "<none>:<none>"]);
    fs::write(fixture.path("saved.tar"), archive).unwrap();
    let image = fixture.import(&fixture.path("saved.tar")).unwrap().remove(0);
    assert_holds_two_layers(&image);
    let names: Vec<String> = image.names.iter().map(|name| name.familiar()).collect();
    assert_eq!(names, ["app:1", "app:latest"]);
}

#[test]
fn a_docker_archive_whose_layers_are_links_to_each_other() {
    let fixture = Fixture::new();
    let layer = Layer::new().file("f", b"x").tar();
    let configuration = build::configuration(&[layer.clone(), layer.clone()]).to_string();
    let manifest = r#"[{"Config":"c.json","RepoTags":null,"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let archive = Layer::new()
        .file("a/layer.tar", &layer)
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("c.json", configuration.as_bytes())
        .file("manifest.json", manifest.as_bytes());
    fs::write(fixture.path("saved.tar"), archive.tar()).unwrap();
    let image = fixture.import(&fixture.path("saved.tar")).unwrap().remove(0);
    assert!(image.names.is_empty());
    assert_eq!(fixture.store.resolve(&image.short_id()).unwrap().id, image.id);
}

#[test]
fn an_index_gives_the_image_for_this_machine() {
    let fixture = Fixture::new();
    let path = fixture.layout("oci", &two_layers(), Compression::Gzip);
    let json = fs::read_to_string(path.join("index.json")).unwrap();
    let mut index: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut here = index["manifests"][0].clone();
    here["platform"] =
        serde_json::json!({"os": "linux", "architecture": theca_image::source::architecture()});
    let other = serde_json::json!({"mediaType": "", "size": 3, "digest": Digest::of(b"absent").to_string(),
        "platform": {"os": "linux", "architecture": "riscv64"}});
    index["manifests"] = serde_json::json!([other, here]);
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    assert_holds_two_layers(&fixture.import(&path).unwrap()[0]);
}

#[test]
fn images_of_equal_layers_share_their_disk() {
    let fixture = Fixture::new();
    let first = fixture.import_as(&fixture.layout("a", &two_layers(), Compression::Gzip), "first");
    let mut configuration = build::configuration(&two_layers());
    configuration["config"]["User"] = "8".into();
    let blobs = build::with_configuration(&two_layers(), Compression::Zstd, &configuration);
    build::write_layout(&fixture.path("b"), &blobs, None);
    // Its layers are not even read: the disk is there.
    for (digest, _) in &blobs.all[1..3] {
        fs::remove_file(fixture.path("b/blobs/sha256").join(digest.hex())).unwrap();
    }
    for layer in ["0", "1"] {
        assert!(!fixture.path("b/blobs/sha256").join(layer).exists());
    }
    let before = fs::metadata(&first.erofs).unwrap();
    let second = fixture.import_as(&fixture.path("b"), "second");
    assert_ne!(first.id, second.id);
    assert_eq!(first.erofs, second.erofs);
    assert_eq!(before.modified().unwrap(), fs::metadata(&second.erofs).unwrap().modified().unwrap());

    let kept = |_: &Digest| Vec::new();
    fixture.store.remove("first", RemoveOptions::default(), &kept).unwrap();
    assert!(second.erofs.exists(), "the second image still needs it");
    fixture.store.remove("second", RemoveOptions::default(), &kept).unwrap();
    assert_eq!(fixture.stored(), ["blobs", "erofs", "index.json", "lock", "tmp"]);
}

#[test]
fn equal_layers_give_equal_disks_whatever_their_compression() {
    let disk = |how| {
        let fixture = Fixture::new();
        fs::read(&fixture.import(&fixture.layout("oci", &two_layers(), how)).unwrap()[0].erofs).unwrap()
    };
    assert!(disk(Compression::Plain) == disk(Compression::Zstd));
}

#[test]
fn an_image_is_found_by_name_id_and_manifest() {
    let fixture = Fixture::new();
    let image = fixture.import_as(&fixture.layout("oci", &two_layers(), Compression::Gzip), "debian:12");
    let full = image.id.to_string();
    let manifest = image.manifest.unwrap().to_string();
    for what in [
        "debian:12",
        "docker.io/library/debian:12",
        &full,
        &full[7..],
        &image.short_id(),
        &full[..19],
        &manifest,
    ] {
        assert_eq!(fixture.store.resolve(what).unwrap().id, image.id, "{what}");
    }
    for what in ["debian", "debian:11", "other/debian:12", "abc", "", "sha256:12", "zzzzzz"] {
        assert!(matches!(fixture.store.resolve(what), Err(StoreError::NotFound(_))), "{what:?}");
    }
}

#[test]
fn a_name_moves_to_the_image_imported_last() {
    let fixture = Fixture::new();
    let old = fixture.import_as(&fixture.layout("a", &two_layers(), Compression::Gzip), "app");
    let new = fixture.import_as(&fixture.layout("b", &two_layers()[..1], Compression::Gzip), "app");
    assert_eq!(fixture.store.resolve("app").unwrap().id, new.id);
    let listed: Vec<(Digest, usize)> =
        fixture.store.list().unwrap().iter().map(|image| (image.id, image.names.len())).collect();
    assert_eq!(listed, [(new.id, 1), (old.id, 0)], "the old one is nameless, not gone");
}

#[test]
fn images_in_use_stay_unless_forced() {
    let fixture = Fixture::new();
    let image = fixture.import_as(&fixture.layout("oci", &two_layers(), Compression::Gzip), "app");
    let used = |id: &Digest| if *id == image.id { vec!["web".to_owned()] } else { Vec::new() };
    let refused = fixture.store.remove("app", RemoveOptions::default(), &used).unwrap_err();
    assert_eq!(refused.to_string(), "image app is used by web; remove them first, or force it");
    assert!(image.erofs.exists());
    let removal = fixture.store.remove("app", RemoveOptions { force: true }, &used).unwrap();
    assert_eq!((removal.untagged.len(), removal.deleted), (1, Some(image.id)));
    assert!(!image.erofs.exists());
}

#[test]
fn an_image_goes_with_its_last_name() {
    let fixture = Fixture::new();
    let path = fixture.layout("oci", &two_layers(), Compression::Gzip);
    fixture.import_as(&path, "a");
    let image = fixture.import_as(&path, "b");
    let free = |_: &Digest| Vec::new();
    let by_id = fixture.store.remove(&image.short_id(), RemoveOptions::default(), &free);
    assert!(matches!(by_id, Err(StoreError::SeveralNames { names, .. }) if names.len() == 2));
    assert_eq!(fixture.store.remove("a", RemoveOptions::default(), &free).unwrap().deleted, None);
    assert_eq!(
        fixture.store.remove(&image.short_id(), RemoveOptions::default(), &free).unwrap().deleted,
        Some(image.id)
    );
    assert!(fixture.store.list().unwrap().is_empty());
}

#[test]
fn what_a_killed_import_left_is_swept_by_the_next_operation() {
    let fixture = Fixture::new();
    let images = fixture.path("root/images");
    fs::create_dir_all(images.join("tmp/.tmpDEAD")).unwrap();
    fs::write(images.join("tmp/.tmpDEAD/half.erofs"), b"half").unwrap();
    fs::write(images.join("erofs/published-but-unnamed.erofs"), b"x").unwrap();
    fs::write(images.join("blobs/.new-x"), b"x").unwrap();
    fs::write(images.join(".new-index"), b"x").unwrap();
    fixture.import(&fixture.layout("oci", &two_layers(), Compression::Gzip)).unwrap();
    let left = fixture.stored();
    assert!(
        !left.iter().any(|name| ["DEAD", "unnamed", ".new"].iter().any(|part| name.contains(part))),
        "{left:?}"
    );
    assert_eq!(left.iter().filter(|name| name.starts_with("tmp/")).count(), 0);
}

#[test]
fn imports_at_the_same_time_do_not_disturb_each_other() {
    let fixture = Fixture::new();
    let paths: Vec<PathBuf> = (0..6)
        .map(|i| {
            let layer = Layer::new().file("f", format!("{}", i / 2).as_bytes()).tar();
            fixture.layout(&format!("oci{i}"), &[layer], Compression::Gzip)
        })
        .collect();
    std::thread::scope(|scope| {
        for (i, path) in paths.iter().enumerate() {
            let fixture = &fixture;
            scope.spawn(move || fixture.import_as(path, &format!("image{i}")));
        }
    });
    assert_eq!(fixture.store.list().unwrap().len(), 3);
    for i in 0..6 {
        let image = fixture.store.resolve(&format!("image{i}")).unwrap();
        assert_eq!(erofs_reader::read(&image.erofs)["f"].data, format!("{}", i / 2).as_bytes());
    }
}

/// Remembers steps, and stops when told.
#[derive(Default)]
struct Recorder {
    steps: Mutex<Vec<(Step, u64, Option<u64>)>>,
    stop_at: Option<usize>,
}

impl Progress for Recorder {
    fn advanced(&self, step: Step, done: u64, total: Option<u64>) {
        self.steps.lock().unwrap().push((step, done, total));
    }

    fn cancelled(&self) -> bool {
        self.stop_at.is_some_and(|count| self.steps.lock().unwrap().len() >= count)
    }
}

#[test]
fn progress_reaches_its_total_in_every_step() {
    let fixture = Fixture::new();
    let recorder = Recorder::default();
    let path = fixture.layout("oci", &two_layers(), Compression::Gzip);
    fixture.store.import(&path, &ImportOptions::default(), &recorder).unwrap();
    let steps = recorder.steps.into_inner().unwrap();
    let last: std::collections::HashMap<String, (u64, Option<u64>)> =
        steps.iter().map(|(step, done, total)| (format!("{step:?}"), (*done, *total))).collect();
    assert_eq!(last.len(), 3, "two layers and a disk: {last:?}");
    assert!(last.values().all(|(done, total)| Some(*done) == *total), "{last:?}");
}

#[test]
fn a_cancelled_import_leaves_nothing() {
    let fixture = Fixture::new();
    let before = fixture.stored();
    let path = fixture.layout("oci", &two_layers(), Compression::Gzip);
    for stop_at in [1, 3, 6] {
        let recorder = Recorder { stop_at: Some(stop_at), ..Recorder::default() };
        let error = fixture.store.import(&path, &ImportOptions::default(), &recorder).unwrap_err();
        assert!(story(&error).contains("stopped on request"), "{}", story(&error));
        let left: Vec<String> = fixture.stored().into_iter().filter(|name| name != "lock").collect();
        assert_eq!(left, before);
    }
}

#[test]
fn a_damaged_index_is_said_and_not_overwritten() {
    let fixture = Fixture::new();
    let index = fixture.path("root/images/index.json");
    fs::write(&index, "{").unwrap();
    assert!(matches!(fixture.store.list(), Err(StoreError::Damaged { .. })));
    let path = fixture.layout("oci", &two_layers(), Compression::Gzip);
    assert!(matches!(fixture.import(&path), Err(StoreError::Damaged { .. })));
    assert_eq!(fs::read_to_string(&index).unwrap(), "{");
    fs::write(&index, r#"{"version":9,"new":1}"#).unwrap();
    assert!(matches!(fixture.store.list(), Err(StoreError::Version { found: 9, known: 1 })));
}
