//! Names that become folder names: checked once, here, and carried as types from then on. Clones share one text.
//!
//! The alphabet is containerd's: a letter or digit, then letters, digits, `_`, `.` and `-`, at most 76 in all. `..` is
//! refused, so an id can never leave the folder it names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest identifier in bytes.
pub const MAX_LENGTH: usize = 76;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {name:?} is not valid: use 1 to {MAX_LENGTH} letters, digits, '_', '.' and '-', beginning with a letter or digit"
)]
pub struct InvalidId {
    what: &'static str,
    name: String,
}

fn check(what: &'static str, name: &str) -> Result<(), InvalidId> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    let goes_on_well = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if starts_well && goes_on_well && name.len() <= MAX_LENGTH && !name.contains("..") {
        return Ok(());
    }
    Err(InvalidId { what, name: name.chars().take(MAX_LENGTH + 1).collect() })
}

macro_rules! identifier {
    ($(#[$docs:meta])* $name:ident, $what:literal) => {
        $(#[$docs])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(name: &str) -> Result<Self, InvalidId> {
                check($what, name)?;
                Ok(Self(name.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A containerd namespace.
    Namespace,
    "namespace"
);
identifier!(
    /// A sandbox: the keeper's own id.
    SandboxId,
    "sandbox id"
);
identifier!(
    /// A container and its task.
    ContainerId,
    "container id"
);
identifier!(
    /// A process added to a container.
    ExecId,
    "exec id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_uses_is_accepted() {
        for name in ["web", "0", "k8s.io", "a_b-c.d", &"f".repeat(64), &"x".repeat(76)] {
            assert_eq!(name.parse::<ContainerId>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_could_leave_a_folder_is_refused() {
        for name in ["", ".", "..", "a..b", "/etc", "a/b", "-rf", "_a", "a b", "a\0", "é", &"x".repeat(77)] {
            assert!(name.parse::<ContainerId>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_error_quotes_a_hostile_name_and_bounds_it() {
        let error = "\n".repeat(4000).parse::<ExecId>().unwrap_err().to_string();
        assert!(error.starts_with("exec id \"\\n"), "{error}");
        assert!(error.len() < 400);
    }
}
