//! Container names: what people call a container, and a made-up one when they do not.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::ContainerId;

const LONGEST: usize = 128;

const ADJECTIVES: [&str; 32] = [
    "amber", "ancient", "brisk", "calm", "clever", "crisp", "dapper", "dusty", "eager", "fleet", "gentle",
    "golden", "hardy", "hidden", "humble", "keen", "lively", "lucid", "mellow", "mighty", "nimble", "noble",
    "plucky", "quiet", "rapid", "rugged", "silent", "sturdy", "sunny", "tidy", "vivid", "wry",
];
/// Things with a shell or sheath: a theca is one.
const NOUNS: [&str; 32] = [
    "abalone",
    "acorn",
    "almond",
    "armadillo",
    "barnacle",
    "beetle",
    "chestnut",
    "clam",
    "cocoon",
    "conch",
    "cowrie",
    "diatom",
    "filbert",
    "hazel",
    "ladybird",
    "limpet",
    "lobster",
    "mussel",
    "nautilus",
    "nutmeg",
    "oyster",
    "pangolin",
    "peanut",
    "pecan",
    "periwinkle",
    "pistachio",
    "scallop",
    "scarab",
    "snail",
    "tortoise",
    "walnut",
    "whelk",
];

/// A name that a container may have: letters, digits, `_`, `.` and `-`, at least two, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

/// Why a text is no container name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} cannot name a container: use 2 to 128 letters, digits, '_', '.' or '-', beginning with a letter or digit"
)]
pub struct NotAName(String);

impl ContainerName {
    /// A readable name drawn from the digits of `id`. `attempt` numbers the tries: after the first few a digit pair is
    /// appended, so that some name is free however many containers there are.
    pub fn made_up(id: &ContainerId, attempt: usize) -> Self {
        let digits: Vec<usize> =
            id.as_str().chars().filter_map(|c| c.to_digit(16)).map(|d| d as usize).collect();
        let at = |position: usize| digits[(attempt * 4 + position) % digits.len()];
        let adjective = ADJECTIVES[(at(0) * 16 + at(1)) % ADJECTIVES.len()];
        let noun = NOUNS[(at(2) * 16 + at(3)) % NOUNS.len()];
        let suffix = if attempt < 4 { String::new() } else { format!("-{attempt}") };
        Self(format!("{adjective}-{noun}{suffix}"))
    }

    /// The name as typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        // Docker lists names with a leading slash; people paste them.
        let name = text.strip_prefix('/').unwrap_or(text);
        let good = (2..=LONGEST).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if good { Ok(Self(name.to_owned())) } else { Err(NotAName(text.to_owned())) }
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "a1", "my_app.v2-x", "/web"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-web", ".web", "a/b", "../x", "na me", "ü1", &"x".repeat(129)] {
            assert_eq!(bad.parse::<ContainerName>(), Err(NotAName(bad.to_owned())));
        }
    }

    #[test]
    fn made_up_names_are_names_and_change_with_each_attempt() {
        let id = ContainerId::random().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for attempt in 0..40 {
            let name = ContainerName::made_up(&id, attempt);
            assert_eq!(name.to_string().parse(), Ok(name.clone()));
            seen.insert(name);
        }
        assert!(seen.len() > 36, "numbered names do not repeat");
    }
}
