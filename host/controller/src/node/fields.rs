//! Field paths: which parts of a record an Update takes over. Names are those of the published messages.

use std::collections::BTreeMap;

/// Paths that one request may name.
const MAX_PATHS: usize = 1024;

/// A path that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// There is no such field, or it never changes.
    #[error("cannot update field {path:?} of a {what}: use {known}")]
    Unknown {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The path.
        path: String,
        /// What may be updated.
        known: &'static str,
    },
    /// An update without paths is of the whole record, and a part of it that never changes has.
    #[error("the {field} of a {what} cannot change: send it as it is kept, or name the fields to update")]
    Fixed {
        /// `sandbox` or `container`.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A path's last part is missing.
    #[error("the field path {0:?} ends with a dot: name a key")]
    NoKey(String),
    /// Too many of them.
    #[error("an update names more than {MAX_PATHS} fields")]
    TooMany,
}

/// A field path, taken apart at its first dot: keys have dots of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// The field.
    pub field: &'a str,
    /// A key of a map, or a field of a field.
    pub key: Option<&'a str>,
}

/// Takes paths apart; `all` stands for none.
pub fn parse<'a>(paths: &'a [String], all: &'static [&'static str]) -> Result<Vec<Path<'a>>, FieldError> {
    if paths.len() > MAX_PATHS {
        return Err(FieldError::TooMany);
    }
    if paths.is_empty() {
        return Ok(all.iter().map(|field| Path { field, key: None }).collect());
    }
    paths.iter().map(|path| split(path)).collect()
}

fn split(path: &str) -> Result<Path<'_>, FieldError> {
    match path.split_once('.') {
        None => Ok(Path { field: path, key: None }),
        Some((_, "")) => Err(FieldError::NoKey(path.to_owned())),
        Some((field, key)) => Ok(Path { field, key: Some(key.trim_matches('"')) }),
    }
}

/// Takes over a map, or one of its keys: a key that `from` lacks goes.
pub fn take_map<V: Clone>(into: &mut BTreeMap<String, V>, from: &BTreeMap<String, V>, key: Option<&str>) {
    match key {
        None => *into = from.clone(),
        Some(key) => match from.get(key) {
            Some(value) => drop(into.insert(key.to_owned(), value.clone())),
            None => drop(into.remove(key)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_have_dots_and_quotes() {
        let paths = ["labels.io.x/y".to_owned(), "labels.\"a.b\"".to_owned(), "spec".to_owned()];
        let parsed = parse(&paths, &["labels"]).unwrap();
        assert_eq!(parsed[0], Path { field: "labels", key: Some("io.x/y") });
        assert_eq!(parsed[1].key, Some("a.b"));
        assert_eq!(parsed[2].key, None);
    }

    #[test]
    fn no_path_is_everything_that_may_change() {
        assert_eq!(parse(&[], &["labels", "spec"]).unwrap().len(), 2);
    }

    #[test]
    fn a_key_that_is_not_there_any_more_goes() {
        let mut labels = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]);
        take_map(&mut labels, &BTreeMap::new(), Some("a"));
        assert_eq!(labels, BTreeMap::from([("b".to_owned(), 2)]));
    }

    #[test]
    fn a_path_that_ends_with_a_dot_is_refused() {
        assert!(matches!(parse(&["labels.".to_owned()], &[]), Err(FieldError::NoKey(_))));
    }
}
