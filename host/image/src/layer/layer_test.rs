use super::*;
use crate::tree::{Directory, InodeId};

/// Layers under construction and what comes of them.
struct Fixture {
    stack: Stack,
    limits: Limits,
}

/// One entry by its path and what it makes.
fn layer(entries: &[(&str, Make)]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (path, make) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o755);
        let (kind, link, data): (_, &str, &[u8]) = match make {
            Make::File(data) => (::tar::EntryType::Regular, "", data.as_bytes()),
            Make::Dir => (::tar::EntryType::Directory, "", b""),
            Make::Symlink(target) => (::tar::EntryType::Symlink, target, b""),
            Make::Hard(target) => (::tar::EntryType::Link, target, b""),
        };
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        // The builder's own setters refuse hostile paths; the bytes of the header do not.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        tar.append(&header, data).unwrap();
    }
    tar.into_inner().unwrap()
}

enum Make {
    File(&'static str),
    Dir,
    Symlink(&'static str),
    Hard(&'static str),
}
use Make::{Dir, File, Hard, Symlink};

impl Fixture {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let spool = Spool::new(&std::env::temp_dir()).unwrap();
        Self { stack: Stack::new(spool, limits.clone()), limits }
    }

    fn add(&mut self, blob: &[u8]) -> Result<(), LayerError> {
        self.stack.add(blob, Expected { diff_id: Digest::of(blob), blob: None }, &mut |_| true)
    }

    /// The error that a layer of these entries gives alone.
    fn refusal(entries: &[(&str, Make)]) -> String {
        let error = Self::new().add(&layer(entries)).unwrap_err();
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    }

    fn paths(&self) -> String {
        fn walk(tree: &Tree, id: InodeId, prefix: &str, out: &mut Vec<String>) {
            for (name, child) in tree.directory(id).into_iter().flat_map(Directory::entries) {
                let path = format!("{prefix}{}", lossy(name));
                out.push(path.clone());
                walk(tree, child, &format!("{path}/"), out);
            }
        }
        let mut out = Vec::new();
        walk(&self.stack.tree, Tree::ROOT, "", &mut out);
        out.join(" ")
    }
}

#[test]
fn whiteouts_of_an_upper_layer_hide_what_lower_ones_have() {
    let mut image = Fixture::new();
    image
        .add(&layer(&[("./a/", Dir), ("./a/x", File("1")), ("./a/y", File("2")), ("b/z", File("3"))]))
        .unwrap();
    image.add(&layer(&[("a/.wh.x", File("")), ("b/.wh..wh..opq", File("")), ("b/new", File("4"))])).unwrap();
    assert_eq!(image.paths(), "a a/y b b/new");
}

#[test]
fn bookkeeping_of_aufs_is_no_file() {
    let mut image = Fixture::new();
    image.add(&layer(&[(".wh..wh.aufs", File("")), (".wh..wh.plnk/9", File("")), ("a", File(""))])).unwrap();
    assert_eq!(image.paths(), "a");
}

#[test]
fn the_last_of_equal_entries_wins() {
    let mut image = Fixture::new();
    image.add(&layer(&[("a", File("first")), ("a", Symlink("x")), ("a", File("last!!"))])).unwrap();
    let (_, id) = image.stack.tree.directory(Tree::ROOT).unwrap().entries().next().unwrap();
    assert!(matches!(&image.stack.tree.inode(id).kind, Kind::File(content) if content.size == 6));
}

#[test]
fn paths_that_lead_out_are_refused() {
    assert!(Fixture::refusal(&[("../x", File(""))]).contains("`..`"));
    assert!(Fixture::refusal(&[("a/../../x", File(""))]).contains("`..`"));
    assert!(Fixture::refusal(&[("/etc/passwd", File(""))]).contains("absolute path \"/etc/passwd\""));
    assert!(Fixture::refusal(&[("h", Hard("../../etc/passwd"))]).contains("`..`"));
    assert!(Fixture::refusal(&[("h", Hard("/etc/passwd"))]).contains("absolute"));
    assert!(Fixture::refusal(&[("h", Hard("etc/passwd"))]).contains("not there"));
}

#[test]
fn names_that_are_no_whiteouts_are_refused() {
    for path in [".wh.", ".wh..", ".wh...", "a/.wh...", ".wh.a/b"] {
        assert!(Fixture::refusal(&[(path, File(""))]).contains("reserved"), "{path}");
    }
}

#[test]
fn symlinks_lead_nowhere_but_into_the_image() {
    let mut image = Fixture::new();
    let tricks = [
        ("out", Symlink("/")),
        ("out/etc/passwd", File("x")),
        ("up", Symlink("../..")),
        ("up/tmp/x", File("y")),
    ];
    image.add(&layer(&tricks)).unwrap();
    assert_eq!(image.paths(), "etc etc/passwd out tmp tmp/x up");
    assert!(Fixture::refusal(&[("a", Symlink("a")), ("a/b", File(""))]).contains("symlinks"));
    assert!(Fixture::refusal(&[("s", Symlink(""))]).contains("target"));
}

#[test]
fn a_layer_that_unpacks_to_too_much_is_refused() {
    let mut bomb = Fixture::with(Limits { unpacked_bytes: 100_000, ..Limits::default() });
    let zeros = "\0".repeat(200_000).leak();
    let compressed = zstd::encode_all(&layer(&[("a", File(zeros))])[..], 19).unwrap();
    assert!(compressed.len() < 1000);
    assert!(matches!(bomb.add(&compressed), Err(LayerError::Limit(LimitError::Unpacked(100_000)))));
}

#[test]
fn the_limit_counts_all_layers_together() {
    let mut image = Fixture::with(Limits { unpacked_bytes: 15_000, ..Limits::default() });
    let one = layer(&[("a", File("0".repeat(8_000).leak()))]);
    image.add(&one).unwrap();
    assert!(matches!(image.add(&one), Err(LayerError::Limit(LimitError::Unpacked(_)))), "{:?}", image.limits);
}

#[test]
fn too_many_entries_or_too_long_names_are_refused() {
    let mut many = Fixture::with(Limits { entries: 3, ..Limits::default() });
    assert!(many.add(&layer(&[("a", Dir), ("a", Dir), ("a", Dir)])).is_ok());
    assert!(matches!(many.add(&layer(&[("a", Dir)])), Err(LayerError::Limit(LimitError::Entries(3)))));
    let mut long = Fixture::with(Limits { metadata_bytes: 5, ..Limits::default() });
    assert!(matches!(long.add(&layer(&[("abcdef", Dir)])), Err(LayerError::Limit(LimitError::Metadata(5)))));
}

#[test]
fn the_way_to_all_entries_has_a_bound_of_its_own() {
    let mut winding = Fixture::with(Limits { steps: 25, ..Limits::default() });
    let through = [("a/b/c", Dir), ("s", Symlink("a/../a/../a/../a/b")), ("s/c/f", File("x"))];
    assert!(winding.add(&layer(&through)).is_ok());
    let again = winding.add(&layer(&[("s/c/f", File("y")), ("s/c/f", File("z"))]));
    assert!(matches!(again, Err(LayerError::Limit(LimitError::Steps(25)))), "{again:?}");
    let mut hiding = Fixture::with(Limits { steps: 3, ..Limits::default() });
    assert!(hiding.add(&layer(&[("a", Dir), ("b", Dir), ("c", Dir), ("d", Dir)])).is_ok());
    let hidden = hiding.add(&layer(&[(".wh..wh..opq", File(""))]));
    assert!(matches!(hidden, Err(LayerError::Limit(LimitError::Steps(3)))), "{hidden:?}");
}

#[test]
fn wrong_digests_and_sizes_are_refused() {
    let blob = layer(&[("a", File("x"))]);
    let (right, wrong, size) = (Digest::of(&blob), Digest::of(b"other"), blob.len() as u64);
    let add = |diff_id, blob_digest, size| {
        let expected = Expected { diff_id, blob: Some((blob_digest, size)) };
        Fixture::new().stack.add(&blob[..], expected, &mut |_| true)
    };
    assert!(add(right, right, size).is_ok());
    assert!(matches!(add(wrong, right, size), Err(LayerError::DiffId { .. })));
    assert!(matches!(add(right, wrong, size), Err(LayerError::Digest { .. })));
    assert!(matches!(add(right, right, size + 1), Err(LayerError::Size { .. })));
}

#[test]
fn damaged_compression_is_refused() {
    let mut blob = zstd::encode_all(&layer(&[("a", File("x"))])[..], 1).unwrap();
    blob.truncate(blob.len() - 3);
    assert!(Fixture::new().add(&blob).is_err());
    assert!(Fixture::new().add(&[0x1f, 0x8b, 8, 0, 0]).is_err());
}

#[test]
fn reading_stops_on_request() {
    let blob = layer(&[("a", File("x"))]);
    let expected = Expected { diff_id: Digest::of(&blob), blob: None };
    assert!(matches!(
        Fixture::new().stack.add(&blob[..], expected, &mut |_| false),
        Err(LayerError::Cancelled)
    ));
}
