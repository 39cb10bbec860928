//! Runs one target on input after input until its time is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Longest input.
const MAX_BYTES: usize = 1024;
const SECONDS: u64 = 5;
const DAY: u64 = 24 * 60 * 60;

/// Gives `target` random bytes; panics with the name of a file that holds the first input on which it panics.
pub fn run(name: &str, target: fn(&[u8])) {
    if let Some(path) = std::env::var_os("THECA_FUZZ_INPUT") {
        return target(&std::fs::read(path).unwrap());
    }
    for path in found(name) {
        check(name, target, &std::fs::read(path).unwrap());
    }
    let number = |variable: &str, default| match std::env::var(variable) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {value:?}")),
        Err(_) => default,
    };
    let today = UNIX_EPOCH.elapsed().map_or(0, |age| age.as_secs() / DAY);
    let seed = number("THECA_FUZZ_SEED", today);
    // The harness shows it when the test fails.
    println!("THECA_FUZZ_SEED={seed}");
    let mut random = Random(seed);
    let time = Duration::from_secs(number("THECA_FUZZ_SECONDS", SECONDS));
    let began = Instant::now();
    let mut count = 0;
    let mut previous = Vec::new();
    while began.elapsed() < time {
        let input = random.input(&previous);
        check(name, target, &input);
        previous = input;
        count += 1;
    }
    assert!(count > 0, "no time for a single input");
    println!("{name}: {count} inputs in {time:?}");
}

fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let path = std::env::temp_dir().join(format!("theca-fuzz-{name}-{}", std::process::id()));
        std::fs::write(&path, input).unwrap();
        panic!("{name} fails on the {} bytes in {}", input.len(), path.display());
    }
}

fn found(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/found").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

/// SplitMix64: small, good enough, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// New bytes, or the previous ones with some changes.
    fn input(&mut self, previous: &[u8]) -> Vec<u8> {
        if previous.is_empty() || self.below(4) == 0 {
            let length = self.below(MAX_BYTES);
            return (0..length).map(|_| self.byte()).collect();
        }
        let mut input = previous.to_vec();
        for _ in 0..=self.below(8) {
            let at = self.below(input.len().max(1));
            match self.below(4) {
                0 => input.truncate(at),
                1 if input.len() < MAX_BYTES => input.insert(at, self.byte()),
                2 => input.extend((0..16).map(|_| self.byte())),
                _ if at < input.len() => input[at] = self.byte(),
                _ => {}
            }
        }
        input.truncate(MAX_BYTES);
        input
    }

    /// Small and extreme values more often than others: they are what mistakes are made of.
    fn byte(&mut self) -> u8 {
        match self.below(4) {
            0 => self.below(8) as u8,
            1 => 0xff - self.below(2) as u8,
            _ => self.next() as u8,
        }
    }
}
