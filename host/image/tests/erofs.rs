//! The EROFS writer against two readers: one of these tests' own, and erofs-utils.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use support::erofs_reader::{self, Node};
use theca_image::erofs::{self, Contents};
use theca_image::tree::{Attributes, Content, Device, Inode, InodeId, Kind, Time, Tree, Xattrs};

/// File data that needs no storage: byte `i` of file `key` is a function of both.
struct Pattern;

impl Contents for Pattern {
    fn read_at(&self, content: &Content, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (i, byte) in (offset..).zip(buffer) {
            *byte = pattern(content.key, i);
        }
        Ok(())
    }
}

fn pattern(key: u64, i: u64) -> u8 {
    (key.wrapping_mul(31) ^ i ^ (i >> 8)) as u8 | 1
}

struct Zeros;

impl Contents for Zeros {
    fn read_at(&self, _: &Content, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }
}

fn attributes(seed: u32) -> Attributes {
    let mut xattrs = Xattrs::new();
    for i in 0..seed % 4 {
        xattrs.insert(format!("user.a{i}").into_bytes().into(), vec![i as u8; (seed % 97) as usize].into());
    }
    let mtime = Time { seconds: 1_000_000 + i64::from(seed % 3), nanoseconds: (seed % 2) * 5 };
    Attributes { mode: (seed & 0o7777) as u16, uid: seed % 70_000, gid: seed % 3, mtime, xattrs }
}

fn write(tree: &Tree, contents: &dyn Contents, folder: &Path) -> PathBuf {
    let path = folder.join("image.erofs");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    erofs::write(tree, contents, &file, &mut |_, _| true).unwrap();
    path
}

/// What the reader should see, derived from the tree alone.
fn expected(tree: &Tree) -> BTreeMap<String, Node> {
    fn node(tree: &Tree, id: InodeId) -> Node {
        let Inode { attributes, kind } = tree.inode(id);
        let (type_bits, device, data) = match kind {
            Kind::File(content) => {
                (0o100_000, 0, (0..content.size).map(|i| pattern(content.key, i)).collect())
            }
            Kind::Symlink(target) => (0o120_000, 0, target.to_vec()),
            Kind::CharDevice(device) => (0o020_000, device.encoded(), Vec::new()),
            Kind::BlockDevice(device) => (0o060_000, device.encoded(), Vec::new()),
            Kind::Fifo => (0o010_000, 0, Vec::new()),
            Kind::Socket => (0o140_000, 0, Vec::new()),
            Kind::Directory(folder) => {
                (0o040_000, 0, folder.entries().flat_map(|(name, _)| [name, b"\n"].concat()).collect())
            }
        };
        Node {
            nid: 0,
            mode: type_bits | attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            links: 0,
            mtime: (attributes.mtime.seconds, attributes.mtime.nanoseconds),
            device,
            data,
            xattrs: attributes
                .xattrs
                .iter()
                .map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
                .collect(),
        }
    }
    fn walk(tree: &Tree, id: InodeId, path: &str, all: &mut BTreeMap<String, Node>) {
        all.insert(path.to_owned(), node(tree, id));
        let folder = tree.directory(id).into_iter();
        for (name, child) in folder.flat_map(|folder| folder.entries()) {
            let slash = if path.is_empty() { "" } else { "/" };
            walk(tree, child, &format!("{path}{slash}{}", String::from_utf8_lossy(name)), all);
        }
    }
    let mut all = BTreeMap::new();
    walk(tree, Tree::ROOT, "", &mut all);
    all
}

/// Numbers and link counts are the reader's own business; it has checked them.
fn comparable(mut nodes: BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    for node in nodes.values_mut() {
        (node.nid, node.links) = (0, 0);
    }
    nodes
}

/// One step of building a random tree.
#[derive(Clone, Debug)]
struct Step {
    folder: prop::sample::Index,
    name: String,
    kind: u8,
    size: u64,
    seed: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Sizes near the edges of blocks, where tails begin and end.
    let size = prop_oneof![0u64..200, 1900..2200u64, 3900..4200u64, 8100..8300u64, 0..20_000u64];
    let name = prop_oneof![4 => "[a-z.!~-]{1,12}", 1 => "[a-z]{200,255}"];
    let step = (any::<prop::sample::Index>(), name, 0u8..10, size, any::<u32>())
        .prop_map(|(folder, name, kind, size, seed)| Step { folder, name, kind, size, seed });
    prop::collection::vec(step, 0..120)
}

fn build(steps: &[Step]) -> Tree {
    let mut tree = Tree::new();
    *tree.attributes_mut(Tree::ROOT) = attributes(7);
    let mut folders = vec![Tree::ROOT];
    let mut files = Vec::new();
    for (key, step) in (0..).zip(steps) {
        let parent = *step.folder.get(&folders);
        let name = step.name.as_bytes();
        let taken = tree.directory(parent).unwrap().entries().any(|(taken, _)| taken == name);
        if taken || name == b"." || name == b".." {
            continue;
        }
        let mut add =
            |kind| tree.add(parent, name, Inode { attributes: attributes(step.seed), kind }, 0).unwrap();
        match step.kind {
            0 | 1 => folders.push(tree.add_directory(parent, name, attributes(step.seed), 0).unwrap()),
            2 => drop(add(Kind::Symlink(vec![b't'; 1 + step.size as usize % 4095].into()))),
            3 => drop(add(Kind::CharDevice(Device::new(5, u64::from(step.seed) % (1 << 20)).unwrap()))),
            4 => drop(add(Kind::BlockDevice(Device::new(259, 3).unwrap()))),
            5 => drop(add(Kind::Fifo)),
            6 => drop(add(Kind::Socket)),
            7 if !files.is_empty() => tree.name(parent, name, *step.folder.get(&files), 0).unwrap(),
            _ => files.push(add(Kind::File(Content { key, size: step.size }))),
        }
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_reads_back_as_written(steps in steps()) {
        let tree = build(&steps);
        let folder = tempfile::tempdir().unwrap();
        let image = write(&tree, &Pattern, folder.path());
        prop_assert_eq!(comparable(erofs_reader::read(&image)), expected(&tree));
        support::fsck(&image, None);
    }
}

#[test]
fn equal_trees_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    for i in 0..500 {
        let kind = Kind::File(Content { key: i, size: i * 37 });
        tree.add(Tree::ROOT, format!("f{i}").as_bytes(), Inode { attributes: attributes(i as u32), kind }, 0)
            .unwrap();
    }
    let first = std::fs::read(write(&tree, &Pattern, folder.path())).unwrap();
    assert_eq!(first, std::fs::read(write(&tree, &Pattern, folder.path())).unwrap());
}

#[test]
fn a_folder_of_many_blocks_keeps_all_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    for i in 0..20_000u32 {
        let inode = Inode { attributes: attributes(0), kind: Kind::Fifo };
        tree.add(Tree::ROOT, format!("{:x}-{i}", i.wrapping_mul(2_654_435_761)).as_bytes(), inode, 0)
            .unwrap();
    }
    let image = write(&tree, &Pattern, folder.path());
    assert_eq!(erofs_reader::read(&image).len(), 20_001);
    support::fsck(&image, None);
}

#[test]
fn attributes_larger_than_a_block_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    let mut large = attributes(0);
    large.xattrs.insert(b"user.large".as_slice().into(), vec![7; 60_000].into());
    *tree.attributes_mut(Tree::ROOT) = large.clone();
    let file = Kind::File(Content { key: 1, size: 100 });
    tree.add(Tree::ROOT, b"f", Inode { attributes: large, kind: file }, 0).unwrap();
    let image = write(&tree, &Pattern, folder.path());
    assert_eq!(comparable(erofs_reader::read(&image)), expected(&tree));
}

#[test]
fn hard_links_share_an_inode_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    let file = Inode { attributes: attributes(1), kind: Kind::File(Content { key: 1, size: 10 }) };
    let id = tree.add(Tree::ROOT, b"a", file, 0).unwrap();
    let below = tree.add_directory(Tree::ROOT, b"d", attributes(2), 0).unwrap();
    tree.name(below, b"b", id, 0).unwrap();
    let nodes = erofs_reader::read(&write(&tree, &Pattern, folder.path()));
    assert_eq!((nodes["a"].nid, nodes["a"].links), (nodes["d/b"].nid, 2));
}

#[test]
fn files_of_more_than_4_gib_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    let large = (4 << 30) + 5;
    for name in [&b"large"[..], b"second"] {
        let kind = Kind::File(Content { key: 0, size: large });
        tree.add(Tree::ROOT, name, Inode { attributes: attributes(0), kind }, 0).unwrap();
    }
    let image = write(&tree, &Zeros, folder.path());
    assert!(std::fs::metadata(&image).unwrap().len() > 2 * large);
    let listing = std::process::Command::new("dump.erofs").args(["--path=/second"]).arg(&image).output();
    let listing =
        String::from_utf8(listing.expect("dump.erofs runs (Debian's package erofs-utils)").stdout).unwrap();
    assert!(listing.contains(&large.to_string()), "{listing}");
}

#[test]
fn writing_stops_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    let kind = Kind::File(Content { key: 0, size: 10_000_000 });
    tree.add(Tree::ROOT, b"f", Inode { attributes: attributes(0), kind }, 0).unwrap();
    let file = File::create_new(folder.path().join("x")).unwrap();
    let stopped = erofs::write(&tree, &Pattern, &file, &mut |done, total| {
        assert_eq!(total, 10_000_000);
        done < 3_000_000
    });
    assert!(matches!(stopped, Err(erofs::WriteError::Cancelled)));
    assert!(file.metadata().unwrap().len() < 5_000_000);
}
