//! Configuration fragments: what is asked of the kernel, and why.
//!
//! A fragment is a file that kconfig itself could read, held to a stricter form:
//!
//! ```text
//! # Text of a comment block: the reason of the symbol below it.
//! CONFIG_NAME=y
//! # Why not.
//! # CONFIG_OTHER is not set
//!
//! # A block that ends in a blank line is a heading, not a reason.
//! ```
//!
//! Each symbol stands directly below its own reason, and in one fragment only. All that breaks this is reported at once, with
//! file and line.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The value that a symbol has, or is asked to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Not set, or not there at all: kconfig leaves out what its dependencies forbid.
    Off,
    /// Everything else, as kconfig writes it: `y`, a number, a quoted string.
    Set(String),
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Off => out.write_str("off"),
            Value::Set(text) => out.write_str(text),
        }
    }
}

/// Where in the fragments something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The fragment's file name.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.file, self.line)
    }
}

/// One symbol that a fragment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name without `CONFIG_`.
    pub symbol: String,
    /// The value it must have in the end.
    pub value: Value,
    /// Where it is asked.
    pub place: Place,
}

/// What is wrong with a fragment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Neither comment nor symbol.
    #[error("{0}: neither a comment, nor CONFIG_NAME=value, nor `# CONFIG_NAME is not set`")]
    Unreadable(Place),
    /// `=m` in a kernel that loads nothing.
    #[error("{0}: {1} is asked for as a module, and the kernel has none")]
    Module(Place, String),
    /// No comment block directly above.
    #[error("{0}: {1} has no reason: write one in a comment directly above it")]
    NoReason(Place, String),
    /// Asked for twice, even with the same value.
    #[error("{0}: {1} is asked for already at {2}")]
    Duplicate(Place, String, Place),
}

/// Reads one fragment's text. The symbols that could be read are returned beside the problems.
pub fn parse(file: &str, text: &str) -> (Vec<Asked>, Vec<Problem>) {
    let (mut asked, mut problems) = (Vec::new(), Vec::new());
    let mut reason = false;
    for (index, line) in text.lines().enumerate() {
        let place = Place { file: file.to_owned(), line: index + 1 };
        match setting(line) {
            Some((symbol, value)) => {
                if value == Value::Set("m".into()) {
                    problems.push(Problem::Module(place.clone(), symbol.clone()));
                }
                if !reason {
                    problems.push(Problem::NoReason(place.clone(), symbol.clone()));
                }
                asked.push(Asked { symbol, value, place });
                reason = false;
            }
            None if line.trim().is_empty() => reason = false,
            None if line.starts_with('#') => reason |= line.len() > 1,
            None => problems.push(Problem::Unreadable(place)),
        }
    }
    (asked, problems)
}

/// Symbol and value of a line of a fragment or of a `.config`; `None` when it sets nothing.
pub fn setting(line: &str) -> Option<(String, Value)> {
    let named = |name: &str| {
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        valid.then(|| name.to_owned())
    };
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((named(rest.strip_suffix(" is not set")?)?, Value::Off));
    }
    let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    let value = match value {
        "" => return None,
        "n" => Value::Off,
        text => Value::Set(text.to_owned()),
    };
    Some((named(name)?, value))
}

/// All fragments of a folder, in the order of their names.
#[derive(Debug)]
pub struct Fragments {
    /// Every symbol asked for.
    pub asked: Vec<Asked>,
    /// The texts one after the other: what kconfig gets to read.
    pub text: String,
}

/// Reads `folder/*.config`, and refuses them together when one has a problem.
pub fn load(folder: &Path) -> Result<Fragments> {
    let listing = std::fs::read_dir(folder)
        .with_context(|| format!("failed to list the kernel's fragments in {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = listing
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("failed to list {}", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "config"));
    paths.sort();
    anyhow::ensure!(!paths.is_empty(), "no fragment in {}", folder.display());

    let mut texts = Vec::new();
    for path in &paths {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        texts.push((name, text));
    }
    let borrowed = texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    combine(borrowed).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(|p| format!("  {p}")).collect();
        anyhow::anyhow!("the kernel's fragments have {} problems:\n{}", list.len(), list.join("\n"))
    })
}

/// Joins fragments given as (name, text), or tells all that is wrong with them.
pub fn combine<'a>(
    fragments: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Fragments, Vec<Problem>> {
    let (mut asked, mut problems, mut whole) = (Vec::new(), Vec::new(), String::new());
    for (file, text) in fragments {
        let (mut more, mut wrong) = parse(file, text);
        asked.append(&mut more);
        problems.append(&mut wrong);
        whole.push_str(text);
        whole.push('\n');
    }
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for one in &asked {
        match seen.get(one.symbol.as_str()) {
            Some(first) => {
                problems.push(Problem::Duplicate(one.place.clone(), one.symbol.clone(), (*first).clone()))
            }
            None => {
                seen.insert(&one.symbol, &one.place);
            }
        }
    }
    if problems.is_empty() { Ok(Fragments { asked, text: whole }) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str) -> Vec<String> {
        let problems = combine([("a.config", text)]).expect_err("the fragment is wrong");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn reads_values_and_places() {
        let text = "# Heading.\n\n# Why.\nCONFIG_A=y\n# Why not,\n# at length.\n# CONFIG_B is not set\n# How many.\nCONFIG_C=32\n";
        let asked = combine([("a.config", text)]).expect("a good fragment").asked;
        let short: Vec<String> =
            asked.iter().map(|a| format!("{} {} {}", a.place, a.symbol, a.value)).collect();
        assert_eq!(short, ["a.config:4 A y", "a.config:7 B off", "a.config:9 C 32"]);
    }

    #[test]
    fn a_string_keeps_its_quotes_and_spaces() {
        let text = "# Why.\nCONFIG_NAME=\"a b=c\"\n";
        let asked = combine([("a.config", text)]).expect("a good fragment").asked;
        assert_eq!(asked[0].value, Value::Set("\"a b=c\"".into()));
    }

    #[test]
    fn equals_n_means_off() {
        assert_eq!(setting("CONFIG_A=n"), Some(("A".into(), Value::Off)));
    }

    #[test]
    fn a_reason_serves_one_symbol_only() {
        let said = problems_of("# Why.\nCONFIG_A=y\nCONFIG_B=y\n");
        assert_eq!(said.len(), 1);
        assert!(said[0].starts_with("a.config:3: B has no reason"), "{said:?}");
    }

    #[test]
    fn a_heading_is_not_a_reason() {
        let said = problems_of("# Heading.\n\nCONFIG_A=y\n#\nCONFIG_B=y\n");
        assert_eq!(said.len(), 2, "{said:?}");
    }

    #[test]
    fn a_symbol_stands_in_one_fragment_only() {
        let fragments =
            [("a.config", "# Why.\nCONFIG_A=y\n"), ("b.config", "# Why not.\n# CONFIG_A is not set\n")];
        let problems = combine(fragments).expect_err("A is asked for twice");
        assert_eq!(problems[0].to_string(), "b.config:2: A is asked for already at a.config:2");
    }

    #[test]
    fn modules_and_garbage_are_refused_by_line() {
        let said = problems_of("# Why.\nCONFIG_A=m\nCONFIG_=y\nCONFIG_B\n#Why\nCONFIG_C=\n");
        assert!(said[0].starts_with("a.config:2: A is asked for as a module"), "{said:?}");
        for (said, line) in said[1..].iter().zip([3, 4, 6]) {
            assert!(said.starts_with(&format!("a.config:{line}: neither")), "{said}");
        }
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn the_committed_fragments_are_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config/fragments");
        let fragments = load(&folder).expect("the committed fragments");
        assert!(fragments.asked.len() > 200);
    }
}
