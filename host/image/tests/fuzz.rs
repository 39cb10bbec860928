//! Bytes that nobody meant: mutated archives, manifests and configurations, for `THECA_FUZZ_SECONDS` (5 if unset) each.
//!
//! The oracle: no panic, no hang, and what is accepted gives an image that the independent reader finds sound.

mod support;

use std::fs::{self, File};
use std::time::{Duration, Instant};

use support::build::{self, Compression, Layer};
use support::erofs_reader;
use theca_image::erofs;
use theca_image::layer::{Expected, Spool, Stack};
use theca_image::source::Document;
use theca_image::{Digest, ImportOptions, Limits, Reference, Silent, Store};

/// Random numbers (SplitMix64) that can be had again by setting `THECA_FUZZ_SEED` to what a failure printed.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed =
            std::env::var("THECA_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
        println!("THECA_FUZZ_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % end.max(1)
    }
}

fn for_a_while(mut one: impl FnMut(&mut Dice)) {
    let seconds = std::env::var("THECA_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut dice = Dice::new();
    let mut rounds = 0u64;
    while Instant::now() < end {
        let started = Instant::now();
        one(&mut dice);
        rounds += 1;
        assert!(started.elapsed() < Duration::from_secs(10), "one round took {:?}", started.elapsed());
    }
    println!("{rounds} rounds");
}

/// Random entries with names from a small set, so that they meet: files, links, whiteouts, odd paths.
fn random_layer(dice: &mut Dice) -> Vec<u8> {
    const NAMES: [&str; 14] = [
        "a",
        "b",
        "a/b",
        "a/c",
        "b/a/c",
        "s/a",
        "s",
        "t/x",
        "./a/",
        "a/.wh.b",
        ".wh.a",
        "a/.wh..wh..opq",
        ".wh..wh..opq",
        "t",
    ];
    let mut layer = Layer::new();
    for _ in 0..dice.below(20) {
        let name = NAMES[dice.below(NAMES.len())];
        let other = ["a", "b", "/a", "../b", "a/b", "s", "t", "."][dice.below(8)];
        layer = match dice.below(7) {
            0 => layer.dir(name),
            1 => layer.symlink(name, other),
            2 => layer.hard_link(name, other),
            3 => layer.pax(&[("SCHILY.xattr.user.x", b"1"), ("mtime", b"1.5")]).file(name, b"pax"),
            4 => layer.device(name, 1, 3),
            _ => layer.file(name, &vec![b'x'; dice.below(5000)]),
        };
    }
    layer.tar()
}

/// Flips, cuts, doubles or moves some bytes.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = [0, 0xff, b'/', b'.', b'9', b'-', b' '][dice.below(7)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + dice.below(1024)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => drop(bytes.drain(at..(at + dice.below(600)).min(bytes.len()))),
        }
    }
}

/// Makes header checksums right again, or nothing behind them would ever be reached.
fn repair_checksums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

#[test]
fn damaged_layers_never_do_more_than_fail() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.erofs");
    for_a_while(|dice| {
        let limits = Limits {
            unpacked_bytes: 1 << 20,
            entries: 200,
            metadata_bytes: 1 << 20,
            layers: 4,
            steps: 100_000,
        };
        let mut stack = Stack::new(Spool::new(folder.path()).unwrap(), limits);
        for _ in 0..1 + dice.below(3) {
            let mut layer = random_layer(dice);
            damage(dice, &mut layer);
            repair_checksums(&mut layer);
            let expected = Expected { diff_id: Digest::of(&layer), blob: None };
            let how = [Compression::Plain, Compression::Gzip, Compression::Zstd][dice.below(3)];
            let mut blob = build::compress(&layer, how);
            if dice.below(4) == 0 {
                damage(dice, &mut blob);
            }
            if stack.add(&blob[..], expected, &mut |_| true).is_err() {
                return;
            }
        }
        let (tree, spool) = stack.finish();
        let image = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        erofs::write(&tree, &spool, &image, &mut |_, _| true).unwrap();
        let files = erofs_reader::read(&path);
        assert!(
            !files.keys().any(|name| name.split('/').any(|part| part == ".." || part.starts_with(".wh.")))
        );
    });
}

#[test]
fn damaged_archives_never_do_more_than_fail() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("root")).unwrap();
    let layers = [Layer::new().file("f", b"x").tar()];
    build::write_layout(&folder.path().join("oci"), &build::blobs(&layers, Compression::Plain), Some("a:1"));
    let good = [build::tar_of(&folder.path().join("oci")), build::docker_archive(&layers, &["a:1"])];
    let path = folder.path().join("image.tar");
    for_a_while(|dice| {
        let mut archive = good[dice.below(good.len())].clone();
        damage(dice, &mut archive);
        repair_checksums(&mut archive);
        fs::write(&path, &archive).unwrap();
        if let Ok(images) = store.import(&path, &ImportOptions::default(), &Silent) {
            assert!(images.iter().all(|image| erofs_reader::read(&image.erofs)["f"].data == b"x"));
        }
    });
}

#[test]
fn damaged_documents_and_names_never_do_more_than_fail() {
    let layers = [Layer::new().file("f", b"x").tar()];
    let blobs = build::blobs(&layers, Compression::Plain);
    for_a_while(|dice| {
        for _ in 0..100 {
            let mut json = blobs.all[dice.below(blobs.all.len())].1.clone();
            damage(dice, &mut json);
            let _ = Document::parse(&json, "the manifest");
            let mut name = format!("localhost:5000/a/b-c_d:tag@{}", Digest::of(b"")).into_bytes();
            damage(dice, &mut name);
            let name = String::from_utf8_lossy(&name).into_owned();
            if let Ok(reference) = name.parse::<Reference>() {
                assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference), "{name}");
                assert_eq!(reference.familiar().parse::<Reference>().as_ref(), Ok(&reference), "{name}");
            }
        }
    });
}
