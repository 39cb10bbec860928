//! What the kernel writes into the files of a cgroup: a number, a table, pressure.

use std::collections::HashMap;

use theca_proto::io::containerd::cgroups::v2::{PsiData, PsiStats};

/// Files by name. One that is not there is empty.
pub struct Files<'a>(pub HashMap<&'a str, &'a str>);

impl<'a> Files<'a> {
    pub fn text(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    /// A file that holds a number or `max`.
    pub fn limit(&self, name: &str, unlimited: u64) -> u64 {
        match self.text(name).trim() {
            "max" => unlimited,
            number => number.parse().unwrap_or(unlimited),
        }
    }

    /// A file of lines `name number`.
    pub fn table(&self, name: &str) -> Table<'a> {
        let row = |line: &'a str| {
            let (name, number) = line.split_once(' ')?;
            Some((name, number.trim().parse().ok()?))
        };
        Table(self.text(name).lines().filter_map(row).collect())
    }

    /// A file of two lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, the second one `full`. None if it is not there, as
    /// in a guest whose kernel does not count pressure.
    pub fn pressure(&self, name: &str) -> Option<PsiStats> {
        let text = self.0.get(name)?;
        let line = |wanted: &str| {
            text.lines().find_map(|line| {
                let (who, counters) = line.split_once(' ')?;
                (who == wanted).then(|| pressure(counters))
            })
        };
        Some(PsiStats { some: line("some"), full: line("full") })
    }
}

pub struct Table<'a>(HashMap<&'a str, u64>);

impl Table<'_> {
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What is one counter to us and several to the kernel.
    pub fn sum<const N: usize>(&self, names: [&str; N]) -> u64 {
        names.iter().fold(0, |sum, name| sum.saturating_add(self.get(name)))
    }
}

/// Words `name=value`.
pub fn assignments(text: &str) -> HashMap<&str, &str> {
    text.split_ascii_whitespace().filter_map(|word| word.split_once('=')).collect()
}

fn pressure(counters: &str) -> PsiData {
    let counters = assignments(counters);
    // A float may parse as no number at all.
    let percent = |name| {
        let share = counters.get(name).and_then(|share| share.parse().ok());
        share.filter(|share| (0.0..=100.0).contains(share)).unwrap_or(0.0)
    };
    PsiData {
        avg10: percent("avg10"),
        avg60: percent("avg60"),
        avg300: percent("avg300"),
        total: counters.get("total").and_then(|total| total.parse().ok()).unwrap_or(0),
    }
}
