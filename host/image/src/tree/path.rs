//! Paths as archives write them, checked once where they enter.

use thiserror::Error;

use super::lossy;
use crate::limits::{NAME_MAX, PATH_MAX};

/// A path below the image's root: components that are names, none of them `.`, `..` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPath<'a> {
    components: Vec<&'a [u8]>,
}

/// Why a path is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// Starts at the host's root.
    #[error("absolute path {0:?}")]
    Absolute(String),
    /// Leads upward.
    #[error("path {0:?} has a `..`")]
    Upward(String),
    /// Holds a NUL byte, or is empty.
    #[error("path {0:?} is empty or has a NUL byte")]
    Malformed(String),
    /// A component does not fit a directory entry.
    #[error("path {0:?} has a name longer than {NAME_MAX} bytes")]
    NameTooLong(String),
    /// The whole is too long.
    #[error("path {0:?}… is longer than {PATH_MAX} bytes")]
    TooLong(String),
}

impl<'a> EntryPath<'a> {
    /// Takes a relative path; `./` in front, doubled and trailing slashes mean nothing. `.` alone is the root, and so is
    /// `/` alone, as umoci writes it.
    pub fn parse(path: &'a [u8]) -> Result<Self, PathError> {
        let components = components(path)?;
        if path.starts_with(b"/") && !components.is_empty() {
            return Err(PathError::Absolute(lossy(path)));
        }
        if components.contains(&&b".."[..]) {
            return Err(PathError::Upward(lossy(path)));
        }
        Ok(Self { components })
    }

    /// The folder's components and the last name, or `None` for the root itself.
    pub fn split(&self) -> Option<(&[&'a [u8]], &'a [u8])> {
        self.components.split_last().map(|(name, parents)| (parents, *name))
    }

    /// All components.
    pub fn components(&self) -> &[&'a [u8]] {
        &self.components
    }
}

/// Splits a path that may be absolute or lead upward, as symlink targets do.
pub(super) fn components(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.len() > PATH_MAX {
        return Err(PathError::TooLong(lossy(path)));
    }
    if path.is_empty() || path.contains(&0) {
        return Err(PathError::Malformed(lossy(path)));
    }
    let parts: Vec<&[u8]> =
        path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.iter().any(|part| part.len() > NAME_MAX) {
        return Err(PathError::NameTooLong(lossy(path)));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_doubled_slashes_mean_nothing() {
        for path in ["a/b", "./a/b", "a//b/", "././a/./b/."] {
            assert_eq!(EntryPath::parse(path.as_bytes()).unwrap().components(), [b"a", b"b"]);
        }
        for root in ["./", ".", "/", "//"] {
            assert_eq!(EntryPath::parse(root.as_bytes()).unwrap().split(), None);
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        assert!(matches!(EntryPath::parse(b"/etc/passwd"), Err(PathError::Absolute(_))));
        for path in ["..", "../a", "a/..", "a/../../b"] {
            assert!(matches!(EntryPath::parse(path.as_bytes()), Err(PathError::Upward(_))), "{path}");
        }
    }

    #[test]
    fn paths_that_linux_cannot_hold_are_refused() {
        assert!(matches!(EntryPath::parse(b""), Err(PathError::Malformed(_))));
        assert!(matches!(EntryPath::parse(b"a\0b"), Err(PathError::Malformed(_))));
        assert!(matches!(EntryPath::parse(&[b'a'; 256]), Err(PathError::NameTooLong(_))));
        assert!(matches!(EntryPath::parse("a/".repeat(3000).as_bytes()), Err(PathError::TooLong(_))));
        assert!(EntryPath::parse(&[b'a'; 255]).is_ok());
    }
}
