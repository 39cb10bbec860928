//! containerd's filter syntax: which records a List answers.
//!
//! ```text
//!   filter   = selector { "," selector }                      all of them must hold; of several filters, any
//!   selector = path [ ( "==" | "!=" | "~=" ) value ]          a path alone: there is such a field and it is not empty
//!   path     = field { "." field }                            field and value may be quoted: labels."io.x/y"=="a,b"
//! ```
//!
//! `!=` holds where the field is missing, `~=` is a regular expression that need only match a part.

use std::iter::Peekable;
use std::str::CharIndices;

use regex_lite::Regex;

/// Longest filter in bytes.
const MAX_LENGTH: usize = 16 << 10;
/// Size of a compiled regular expression, as a bound of what one request may make the node do.
const MAX_REGEX: usize = 256 << 10;

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter {filter:?} is not valid: {why} at byte {at}")]
pub struct FilterError {
    filter: String,
    why: String,
    at: usize,
}

/// What a filter looks at.
pub trait Fields {
    /// The field at `path`; `None` if there is none.
    fn field(&self, path: &[String]) -> Option<&str>;
}

/// Filters as one request names them.
#[derive(Debug)]
pub struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Regex),
}

impl Filters {
    /// Reads filters; an empty one holds for everything.
    pub fn parse(filters: &[String]) -> Result<Self, FilterError> {
        let read = |filter: &String| match filter.trim() {
            "" => Ok(Vec::new()),
            _ => Parser::new(filter).filter(),
        };
        filters.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether any of the filters holds, or there is none.
    pub fn match_any(&self, record: &impl Fields) -> bool {
        let holds = |filter: &Vec<Selector>| filter.iter().all(|selector| selector.holds(record));
        self.0.is_empty() || self.0.iter().any(holds)
    }
}

impl Selector {
    fn holds(&self, record: &impl Fields) -> bool {
        let field = record.field(&self.path);
        match &self.test {
            Test::Present => field.is_some_and(|value| !value.is_empty()),
            Test::Equal(wanted) => field == Some(wanted),
            Test::NotEqual(unwanted) => field != Some(unwanted),
            Test::Matches(pattern) => field.is_some_and(|value| pattern.is_match(value)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable() }
    }

    fn filter(mut self) -> Result<Vec<Selector>, FilterError> {
        if self.text.len() > MAX_LENGTH {
            return self.fail(format!("it has more than {MAX_LENGTH} bytes"));
        }
        let mut selectors = vec![self.selector()?];
        while self.take(',') {
            selectors.push(self.selector()?);
        }
        match self.rest.peek().copied() {
            None => Ok(selectors),
            Some((_, stray)) => self.fail(format!("{stray:?} is not expected")),
        }
    }

    fn selector(&mut self) -> Result<Selector, FilterError> {
        self.blanks();
        let mut path = vec![self.field()?];
        while self.take('.') {
            path.push(self.field()?);
        }
        self.blanks();
        let operator = match self.rest.peek() {
            Some((_, first @ ('=' | '!' | '~'))) => *first,
            _ => return Ok(Selector { path, test: Test::Present }),
        };
        self.rest.next();
        if !self.take('=') {
            return self.fail(format!("after {operator:?} an '=' is missing"));
        }
        self.blanks();
        let at = self.at();
        let value = self.value()?;
        self.blanks();
        let test = match operator {
            '=' => Test::Equal(value),
            '!' => Test::NotEqual(value),
            _ => Test::Matches(self.regex(&value, at)?),
        };
        Ok(Selector { path, test })
    }

    fn regex(&mut self, pattern: &str, at: usize) -> Result<Regex, FilterError> {
        let built = regex_lite::RegexBuilder::new(pattern).size_limit(MAX_REGEX).build();
        built.map_err(|error| self.error(error.to_string(), at))
    }

    fn field(&mut self) -> Result<String, FilterError> {
        match self.rest.peek() {
            Some((_, '"' | '\'' | '|' | '/')) => self.quoted(),
            Some((_, first)) if first.is_ascii_alphabetic() => {
                Ok(self.while_true(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            }
            _ => self.fail("a field's name is missing".to_owned()),
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        match self.rest.peek() {
            Some((_, '"' | '\'' | '|' | '/')) => self.quoted(),
            _ => match self.while_true(|c| c != ',' && !c.is_whitespace()) {
                value if value.is_empty() => self.fail("a value is missing".to_owned()),
                value => Ok(value),
            },
        }
    }

    /// Between two equal quotes; a backslash takes what follows as it is, `\n` and `\t` apart.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let at = self.at();
        let Some((_, quote)) = self.rest.next() else { return self.fail("a quote is missing".to_owned()) };
        let mut text = String::new();
        while let Some((_, c)) = self.rest.next() {
            match c {
                c if c == quote => return Ok(text),
                '\\' => match self.rest.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c)) if c == quote || c == '\\' => text.push(c),
                    // A regular expression's own.
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(self.error("the quote is not closed".to_owned(), at))
    }

    fn while_true(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some((_, c)) = self.rest.next_if(|(_, c)| wanted(*c)) {
            text.push(c);
        }
        text
    }

    fn blanks(&mut self) {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, c)| *c == wanted).is_some()
    }

    fn at(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn fail<T>(&mut self, why: String) -> Result<T, FilterError> {
        let at = self.at();
        Err(self.error(why, at))
    }

    fn error(&self, why: String, at: usize) -> FilterError {
        FilterError { filter: self.text.chars().take(200).collect(), why, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Web;

    impl Fields for Web {
        fn field(&self, path: &[String]) -> Option<&str> {
            match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["id"] => Some("web-1"),
                ["labels", "team"] => Some("a,b"),
                ["labels", "io.x/y"] => Some("v"),
                ["image"] => Some(""),
                _ => None,
            }
        }
    }

    fn holds(filters: &[&str]) -> bool {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        Filters::parse(&filters).unwrap().match_any(&Web)
    }

    #[test]
    fn no_filter_lets_everything_through() {
        assert!(holds(&[]) && holds(&[""]) && holds(&["id==other", " "]));
    }

    #[test]
    fn selectors_of_a_filter_must_all_hold_and_any_filter_will_do() {
        assert!(holds(&["id==web-1"]));
        assert!(holds(&["id==web-1,labels.\"io.x/y\"==v"]));
        assert!(!holds(&["id==web-1,labels.\"io.x/y\"==w"]));
        assert!(holds(&["id==other", "id==web-1"]));
        assert!(!holds(&["id==other", "id==another"]));
    }

    #[test]
    fn every_operator() {
        assert!(holds(&["labels.team==\"a,b\""]) && !holds(&["labels.team==a"]));
        assert!(holds(&["id!=web-2"]) && !holds(&["id!=web-1"]));
        assert!(holds(&["labels.none!=x"]), "a missing field is not equal to anything");
        assert!(holds(&["id~=^web-[0-9]+$"]) && holds(&["id~=eb"]) && !holds(&["id~=^eb"]));
        assert!(holds(&["id~=/^web-\\d$/"]), "quoted, with an expression's own backslash");
        assert!(holds(&["labels.team"]) && !holds(&["labels.none"]) && !holds(&["image"]));
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for (filter, place) in [
            ("id=", "after '=' an '=' is missing at byte 3"),
            ("id==", "a value is missing at byte 4"),
            ("==x", "a field's name is missing at byte 0"),
            ("id==x,", "a field's name is missing at byte 6"),
            ("labels.\"x", "the quote is not closed at byte 7"),
            ("id==a b", "'b' is not expected at byte 6"),
        ] {
            let error = Filters::parse(&[filter.to_owned()]).unwrap_err().to_string();
            assert!(error.ends_with(place), "{error}");
        }
        assert!(Filters::parse(&["id~=(".to_owned()]).is_err());
        assert!(Filters::parse(&["x".repeat(MAX_LENGTH + 1)]).is_err());
    }
}
