//! Container ids: 64 hex digits, drawn at random, never reused.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many digits of an id lists show.
const SHORT: usize = 12;

/// The id of a container; also the name of its folder and of its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// Why a text is no container id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a container id: expected 64 hexadecimal digits")]
pub struct NotAnId(String);

impl ContainerId {
    /// A new id from the kernel's random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, which is what people read and type.
    pub fn short(&self) -> &str {
        &self.0[..SHORT]
    }
}

impl FromStr for ContainerId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && digits { Ok(Self(text.to_owned())) } else { Err(NotAnId(text.to_owned())) }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_well_formed_and_differ() {
        let (one, other) = (ContainerId::random().unwrap(), ContainerId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert!(one.as_str().starts_with(one.short()) && one.short().len() == 12);
    }

    #[test]
    fn what_is_not_64_lower_case_digits_is_no_id() {
        for text in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../../etc"] {
            assert_eq!(text.parse::<ContainerId>(), Err(NotAnId(text.to_owned())));
        }
    }
}
