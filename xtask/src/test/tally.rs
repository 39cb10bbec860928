//! What test runners said, summed up.

use std::fmt;
use std::io::{self, Write};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts of tests.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What was skipped and why, where it is not a runner that tells.
    reasons: Vec<&'static str>,
}

impl Tally {
    /// One failure: a check that is no test, or a suite that did not come to its end.
    pub fn failure() -> Self {
        Self { failed: 1, ..Self::default() }
    }

    /// One check that this machine does not allow.
    pub fn skipped(reason: &'static str) -> Self {
        Self { skipped: 1, reasons: vec![reason], ..Self::default() }
    }

    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// This tally, with a failure if the runner failed without naming a test.
    pub fn ended(self, success: bool) -> Self {
        if success || self.failed > 0 { self } else { Self { failed: 1, ..self } }
    }

    /// Takes in a closing line of a runner: one of Rust's, or of the two of Python's unittest.
    fn take(&mut self, line: &str) {
        if let Some(tally) = Self::read(line) {
            *self += tally;
        } else if let Some(ran) = ran(line) {
            self.passed += ran;
        } else if let Some(failed) =
            outcome(line, "FAILED (", &["failures=", "errors=", "unexpected successes="])
        {
            let skipped = outcome(line, "FAILED (", &["skipped="]).unwrap_or(0);
            self.failed += failed;
            self.skipped += skipped;
            self.passed = self.passed.saturating_sub(failed + skipped);
        } else if let Some(skipped) = outcome(line, "OK (", &["skipped="]) {
            self.skipped += skipped;
            self.passed = self.passed.saturating_sub(skipped);
        }
    }

    /// Reads Rust's test runner's closing line, `test result: ok. 3 passed; 0 failed; …`. What it calls ignored is not for this
    /// run: processes that tests start.
    fn read(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            let count = counts.split(';').find_map(|part| part.trim().strip_suffix(what))?;
            count.trim().parse().ok()
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ..Self::default() })
    }
}

/// unittest's `Ran 12 tests in 3.4s`: those that failed, or were skipped, included.
fn ran(line: &str) -> Option<u64> {
    let (number, rest) = line.strip_prefix("Ran ")?.split_once(" test")?;
    if rest.contains(" in ") { number.parse().ok() } else { None }
}

/// unittest's `FAILED (failures=1, errors=2)`: the sum of the counts that are called so.
fn outcome(line: &str, verdict: &str, counts: &[&str]) -> Option<u64> {
    let told = line.trim().strip_prefix(verdict)?.strip_suffix(')')?;
    let count =
        |told: &str| counts.iter().find_map(|name| told.trim().strip_prefix(name)?.parse::<u64>().ok());
    Some(told.split(',').filter_map(count).sum())
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reasons.iter().try_for_each(|reason| writeln!(f, "skipped: {reason}"))?;
        if self.skipped > 0 {
            writeln!(f, "{} skipped", self.skipped)?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A writer that passes a runner's output on and counts on the way. Clones share the count.
#[derive(Clone)]
pub struct Counter(Arc<Mutex<Counting>>);

struct Counting {
    onward: Box<dyn Write + Send>,
    line: Vec<u8>,
    tally: Tally,
}

impl Counter {
    /// Passes on to `onward`.
    pub fn new(onward: impl Write + Send + 'static) -> Self {
        let (line, tally) = (Vec::new(), Tally::default());
        Self(Arc::new(Mutex::new(Counting { onward: Box::new(onward), line, tally })))
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.counting().tally.clone()
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut counting = self.counting();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            counting.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut counting.line);
                counting.tally.take(&String::from_utf8_lossy(&line));
            }
        }
        counting.onward.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.counting().onward.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed_however_they_arrive() {
        let mut counter = Counter::new(io::sink());
        for piece in [
            "running 2 tests\ntest result: ok. 2 pas",
            "sed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s\n",
            "test result: FAILED. 7 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n",
        ] {
            counter.write_all(piece.as_bytes()).unwrap();
        }
        assert_eq!(counter.tally().to_string(), "9 passed, 3 failed");
    }

    #[test]
    fn pythons_runner_is_understood() {
        let mut counter = Counter::new(io::sink());
        for line in [
            "Ran 1 test in 0.001s\n\nOK\n",
            "Ran 10 tests in 3.4s\n\nFAILED (failures=1, errors=2, skipped=3)\n",
            "Ran 5 tests in 0.1s\n\nOK (skipped=2)\n",
            "FAILED to explain (itself)\nRan away\n",
        ] {
            counter.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(counter.tally().to_string(), "5 skipped\n8 passed, 3 failed");
    }

    #[test]
    fn what_is_skipped_is_told_in_the_last_lines_and_does_not_fail() {
        let mut tally = Tally { passed: 2, ..Tally::default() };
        tally += Tally::skipped("advisories: no network");
        assert_eq!(tally.to_string(), "skipped: advisories: no network\n1 skipped\n2 passed, 0 failed");
        assert!(tally.is_good());
    }

    #[test]
    fn a_runner_that_dies_without_a_word_is_a_failure() {
        assert!(Tally::default().ended(true).is_good());
        assert_eq!(Tally::default().ended(false), Tally::failure());
        assert_eq!(
            Tally { passed: 1, failed: 2, ..Tally::default() }.ended(false).to_string(),
            "1 passed, 2 failed"
        );
    }
}
