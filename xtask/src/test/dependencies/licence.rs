//! SPDX licence expressions, as packages give them: `MIT OR (Apache-2.0 WITH LLVM-exception AND BSD-3-Clause)`. Older
//! packages write `MIT/Apache-2.0` and mean OR.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::vec::IntoIter;

/// An expression that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression cannot be read {}", place.as_deref().map_or("to its end".into(), |place| format!("from {place:?} on")))]
pub struct Malformed {
    /// The word that does not belong there; absent: there should be more.
    place: Option<String>,
}

type Words = Peekable<IntoIter<String>>;

/// Whether one can keep to an expression with nothing but licences in `allowed`.
pub fn allows(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, Malformed> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
    let mut words = words.into_iter().peekable();
    let verdict = any(&mut words, allowed)?;
    match words.next() {
        None => Ok(verdict),
        place => Err(Malformed { place }),
    }
}

fn any(words: &mut Words, allowed: &BTreeSet<String>) -> Result<bool, Malformed> {
    let mut verdict = all(words, allowed)?;
    while words.next_if(|word| word == "OR").is_some() {
        verdict |= all(words, allowed)?;
    }
    Ok(verdict)
}

fn all(words: &mut Words, allowed: &BTreeSet<String>) -> Result<bool, Malformed> {
    let mut verdict = one(words, allowed)?;
    while words.next_if(|word| word == "AND").is_some() {
        verdict &= one(words, allowed)?;
    }
    Ok(verdict)
}

/// A licence, with its exception if it has one, or an expression in brackets.
fn one(words: &mut Words, allowed: &BTreeSet<String>) -> Result<bool, Malformed> {
    let word = words.next().ok_or(Malformed { place: None })?;
    if word == "(" {
        let verdict = any(words, allowed)?;
        return match words.next() {
            Some(word) if word == ")" => Ok(verdict),
            place => Err(Malformed { place }),
        };
    }
    if [")", "OR", "AND", "WITH"].contains(&word.as_str()) {
        return Err(Malformed { place: Some(word) });
    }
    if words.next_if(|word| word == "WITH").is_none() {
        return Ok(allowed.contains(&word));
    }
    let exception = words.next().ok_or(Malformed { place: None })?;
    Ok(allowed.contains(&format!("{word} WITH {exception}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> Result<bool, Malformed> {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        allows(expression, &allowed.into_iter().map(str::to_owned).collect())
    }

    #[test]
    fn either_side_of_or_will_do_and_both_of_and_must() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-2.0-only", false),
            ("GPL-2.0-only OR MIT", true),
            ("GPL-2.0-only/MIT", true),
            ("MIT AND GPL-2.0-only", false),
            ("MIT AND ISC", true),
            ("GPL-2.0-only OR MIT AND ISC", true),
            ("(GPL-2.0-only OR MIT) AND GPL-2.0-only", false),
            ("(GPL-2.0-only OR MIT) AND (ISC)", true),
        ] {
            assert_eq!(verdict(expression), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn a_licence_with_an_exception_is_another_licence() {
        assert_eq!(verdict("Apache-2.0 WITH LLVM-exception"), Ok(true));
        assert_eq!(verdict("Apache-2.0"), Ok(false));
        assert_eq!(verdict("MIT WITH LLVM-exception"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_not_guessed_at() {
        for expression in
            ["", "MIT OR", "MIT ISC", "(MIT", "MIT)", "OR MIT", "Apache-2.0 WITH", "MIT AND OR ISC"]
        {
            assert!(verdict(expression).is_err(), "{expression:?}");
        }
    }
}
