//! Hostile and broken images: each is refused with a sentence that says why, and leaves the store as it was.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::build::{self, Blobs, Compression, Layer};
use support::{files_below, story};
use theca_image::{Digest, ImportOptions, Limits, Silent, Store};

/// An empty store, and beside it a file that no image may touch.
struct Fixture {
    folder: tempfile::TempDir,
    store: Store,
    limits: Limits,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("root")).unwrap();
        fs::write(folder.path().join("outside"), "untouched").unwrap();
        Self { folder, store, limits: Limits::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Imports, expects a refusal, checks that nothing is left, and gives the refusal's words.
    fn refusal(&self, path: &Path) -> String {
        let options = ImportOptions { limits: self.limits.clone(), ..ImportOptions::default() };
        let words = match self.store.import(path, &options, &Silent) {
            Ok(images) => panic!("taken: {images:?}"),
            Err(error) => story(&error),
        };
        let left: Vec<String> =
            files_below(&self.path("root/images")).into_iter().filter(|name| name != "lock").collect();
        assert_eq!(left, ["blobs", "erofs", "tmp"], "left behind after: {words}");
        assert_eq!(fs::read_to_string(self.path("outside")).unwrap(), "untouched");
        words
    }

    fn refusal_of_blobs(&self, blobs: &Blobs) -> String {
        build::write_layout(&self.path("oci"), blobs, None);
        self.refusal(&self.path("oci"))
    }

    fn refusal_of_layer(&self, layer: Vec<u8>) -> String {
        self.refusal_of_blobs(&build::blobs(&[layer], Compression::Gzip))
    }

    fn refusal_of_file(&self, bytes: &[u8]) -> String {
        fs::write(self.path("image.tar"), bytes).unwrap();
        self.refusal(&self.path("image.tar"))
    }
}

#[test]
fn entries_that_lead_out_of_the_image() {
    for (layer, words) in [
        (Layer::new().file("../outside", b"x"), "path \"../outside\" has a `..`"),
        (Layer::new().file("a/../../outside", b"x"), "has a `..`"),
        (Layer::new().file("/outside", b"x"), "absolute path \"/outside\""),
        (Layer::new().dir("/etc"), "absolute path \"/etc\""),
        (Layer::new().hard_link("h", "../outside"), "has a `..`"),
        (Layer::new().hard_link("h", "/etc/shadow"), "absolute path"),
        (Layer::new().symlink("s", "../../..").hard_link("h", "s/outside"), "not there"),
        (Layer::new().pax(&[("path", b"../outside")]).file("fine", b"x"), "has a `..`"),
        (Layer::new().pax(&[("path", b"a\0b")]).file("fine", b"x"), "NUL"),
        (
            Layer::new().entry(tar::EntryType::GNULongName, "l", "", b"../outside").file("fine", b"x"),
            "has a `..`",
        ),
        (Layer::new().file(".wh...", b""), "reserved"),
    ] {
        let refusal = Fixture::new().refusal_of_layer(layer.tar());
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn a_symlink_to_the_host_leads_nowhere() {
    let fixture = Fixture::new();
    let outside = fixture.path("outside");
    let trap = Layer::new()
        .symlink("trap", fixture.folder.path().to_str().unwrap())
        .file("trap/outside", b"overwritten")
        .tar();
    build::write_layout(&fixture.path("oci"), &build::blobs(&[trap], Compression::Plain), None);
    let image =
        fixture.store.import(&fixture.path("oci"), &ImportOptions::default(), &Silent).unwrap().remove(0);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    let inside = outside.strip_prefix("/").unwrap().to_str().unwrap();
    assert_eq!(support::erofs_reader::read(&image.erofs)[inside].data, b"overwritten");
}

#[test]
fn entries_that_make_no_sense() {
    for (layer, words) in [
        (Layer::new().symlink("a", "b").symlink("b", "a").file("a/x", b""), "too many symlinks"),
        (Layer::new().file("a", b"").file("a/x", b""), "is not a folder"),
        (Layer::new().dir("d").hard_link("h", "d"), "which is a folder"),
        (Layer::new().hard_link("h", "nothing"), "not there"),
        (Layer::new().file(".", b""), "root folder"),
        (Layer::new().symlink("s", ""), "the symlink's target"),
        (Layer::new().entry(tar::EntryType::GNUSparse, "s", "", b""), "sparse files (GNU) are not supported"),
        (
            Layer::new().pax(&[("GNU.sparse.major", b"1")]).file("s", b""),
            "sparse files (PAX) are not supported",
        ),
        (Layer::new().entry(tar::EntryType::new(b'Z'), "z", "", b""), "entry type 'Z' is not supported"),
        (Layer::new().pax(&[("uid", b"99999999999")]).file("f", b""), "out of range"),
        (Layer::new().pax(&[("size", b"18446744073709551615")]).file("f", b"x"), "out of range"),
        (Layer::new().pax(&[("size", b"9223372036854775807")]).file("f", b"x"), "ends in the middle"),
        (Layer::new().pax(&[("SCHILY.xattr.user.x", &[b'v'; 70_000])]).file("f", b""), "64 KiB"),
    ] {
        let refusal = Fixture::new().refusal_of_layer(layer.tar());
        assert!(refusal.contains(words), "{refusal}");
    }
}

#[test]
fn bombs() {
    let mut fixture = Fixture::new();
    fixture.limits =
        Limits { unpacked_bytes: 1 << 20, entries: 1000, metadata_bytes: 100_000, layers: 3, steps: 50_000 };
    let zeros = Layer::new().file("zeros", &vec![0; 2 << 20]).tar();
    assert!(fixture.refusal_of_layer(zeros).contains("unpacks to more than the limit of 1048576 bytes"));
    let many = (0..1001).fold(Layer::new(), |layer, i| layer.device(&format!("d{i}"), 1, 3)).tar();
    assert!(fixture.refusal_of_layer(many).contains("more than the limit of 1000 entries"));
    let nested = |layer: Layer, i| {
        layer.pax(&[("path", format!("{i}/{}f", "d/".repeat(300)).as_bytes())]).file("f", b"")
    };
    let implied = (0..4).fold(Layer::new(), nested).tar();
    assert!(fixture.refusal_of_layer(implied).contains("more than the limit of 1000 entries"));
    let fat = |i: u8| {
        Layer::new().pax(&[(&format!("SCHILY.xattr.user.{i}"), &[b'v'; 60_000])]).file(&format!("f{i}"), b"")
    };
    assert!(
        fixture
            .refusal_of_blobs(&build::blobs(&[fat(1).tar(), fat(2).tar()], Compression::Zstd))
            .contains("limit of 100000 bytes")
    );
    let empty = Layer::new().tar();
    assert!(
        fixture
            .refusal_of_blobs(&build::blobs(
                &[empty.clone(), empty.clone(), empty.clone(), empty],
                Compression::Plain
            ))
            .contains("number of layers")
    );
    let archive = build::compress(&vec![0; 2 << 20], Compression::Zstd);
    assert!(fixture.refusal_of_file(&archive).contains("larger than the limit"));
}

#[test]
fn a_path_deeper_than_any_folder() {
    let step = "d/".repeat(40);
    let mut layer = Layer::new().dir(&step).symlink("s0", &step);
    for i in 1..40 {
        layer =
            layer.dir(&format!("s{}/{step}", i - 1)).symlink(&format!("s{i}"), &format!("s{}/{step}", i - 1));
    }
    let refusal = Fixture::new().refusal_of_layer(layer.tar());
    assert!(
        refusal.contains("deeper than 1024 folders") || refusal.contains("too many symlinks"),
        "{refusal}"
    );
}

#[test]
fn damaged_layers() {
    let whole = Layer::new().file("f", &[1; 5000]).tar();
    let cut = whole[..2000].to_vec();
    assert!(Fixture::new().refusal_of_layer(cut).contains("ends in the middle"));
    let mut garbage = whole.clone();
    garbage.extend(b"and more");
    assert!(Fixture::new().refusal_of_layer(garbage).contains("data after its end"));
    let mut header = whole.clone();
    header[3] ^= 1;
    assert!(Fixture::new().refusal_of_layer(header).contains("checksum"));
    assert!(Fixture::new().refusal_of_layer(b"no tar at all".to_vec()).contains("ends in the middle"));
}

#[test]
fn blobs_that_are_not_what_they_are_called() {
    let blobs = || build::blobs(&[Layer::new().file("f", b"x").tar()], Compression::Gzip);
    for (index, what) in [(0, "has digest"), (1, "layer's digest"), (2, "has digest")] {
        let mut blobs = blobs();
        let bytes = &mut blobs.all[index].1;
        // The gzip header's time changes no content; a blank changes no JSON.
        if index == 1 {
            bytes[4] ^= 1
        } else {
            bytes.insert(1, b' ')
        }
        let refusal = Fixture::new().refusal_of_blobs(&blobs);
        assert!(refusal.contains(what), "{refusal}");
    }
    let mut longer = blobs();
    longer.all[1].1.extend(build::compress(b"", Compression::Gzip));
    assert!(Fixture::new().refusal_of_blobs(&longer).contains("the manifest says"));
}

#[test]
fn configurations_that_lie() {
    let layer = Layer::new().file("f", b"x").tar();
    let lying = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut configuration = build::configuration(std::slice::from_ref(&layer));
        change(&mut configuration);
        let blobs =
            build::with_configuration(std::slice::from_ref(&layer), Compression::Gzip, &configuration);
        Fixture::new().refusal_of_blobs(&blobs)
    };
    let other = Digest::of(b"other").to_string();
    assert!(lying(&|c| c["rootfs"]["diff_ids"][0] = other.as_str().into()).contains("diff id"));
    assert!(
        lying(&|c| c["rootfs"]["diff_ids"] = serde_json::json!([]))
            .contains("has 1 layers, its configuration has 0")
    );
    assert!(lying(&|c| c["rootfs"]["diff_ids"][0] = "sha256:../../x".into()).contains("bad digest"));
    assert!(lying(&|c| c["architecture"] = "s390x".into()).contains("the image is for linux/s390x"));
    assert!(lying(&|c| c["os"] = "windows".into()).contains("the image is for windows/"));
    assert!(lying(&|c| c["config"]["Cmd"] = 7.into()).contains("failed to parse the image's configuration"));
}

#[test]
fn things_that_are_no_images() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("empty")).unwrap();
    assert!(
        fixture.refusal(&fixture.path("empty")).contains("neither index.json (OCI layout) nor manifest.json")
    );
    assert!(fixture.refusal(&fixture.path("absent")).contains("No such file"));
    assert!(fixture.refusal_of_file(b"").contains("neither index.json"));
    assert!(fixture.refusal_of_file(b"hello").contains("as a tar archive"));
    assert!(
        fixture
            .refusal_of_file(&Layer::new().file("index.json", b"[").tar())
            .contains("failed to parse index.json")
    );
    assert!(
        fixture.refusal_of_file(&Layer::new().file("manifest.json", b"[]").tar()).contains("lists no image")
    );
    assert!(fixture.refusal_of_file(&Layer::new().file("../index.json", b"{}").tar()).contains("is refused"));
}

#[test]
fn a_layout_whose_files_lead_out_of_it() {
    let fixture = Fixture::new();
    let blobs = build::blobs(&[Layer::new().file("f", b"x").tar()], Compression::Gzip);
    build::write_layout(&fixture.path("oci"), &blobs, None);
    let stray = fixture.path("oci/blobs/sha256").join(blobs.all[1].0.hex());
    fs::rename(&stray, fixture.path("moved")).unwrap();
    std::os::unix::fs::symlink(fixture.path("moved"), &stray).unwrap();
    let refusal = fixture.refusal(&fixture.path("oci"));
    assert!(refusal.contains("failed to read blobs/sha256"), "{refusal}");
    fs::remove_file(&stray).unwrap();
    assert!(fixture.refusal(&fixture.path("oci")).contains("the image lacks blobs/sha256"));
}

#[test]
fn a_docker_archive_with_traps() {
    let fixture = Fixture::new();
    let with = |manifest: &str| {
        let archive = Layer::new()
            .file("c.json", b"{}")
            .symlink("loop", "loop")
            .file("manifest.json", manifest.as_bytes());
        fixture.refusal_of_file(&archive.tar())
    };
    assert!(with(r#"[{"Config":"/etc/passwd","Layers":[]}]"#).contains("lacks /etc/passwd"));
    assert!(with(r#"[{"Config":"../outside","Layers":[]}]"#).contains("lacks ../outside"));
    assert!(with(r#"[{"Config":"loop","Layers":[]}]"#).contains("too many links"));
    assert!(
        with(r#"[{"Config":"c.json","Layers":[]}]"#).contains("failed to parse the image's configuration")
    );
    assert!(with(r#"{"Config":1}"#).contains("failed to parse manifest.json"));
}
