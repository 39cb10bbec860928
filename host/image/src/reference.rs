//! Image names as people type them (`debian`, `debian:12`, `localhost:5000/a/b@sha256:…`) in one normal form.
//!
//! Docker's habits apply: no registry means Docker Hub, no folder there means `library/`, no tag means `latest`.
//! Grammar: the distribution project's "reference" grammar.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Digest;
use crate::digest::DigestError;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const REPOSITORY_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A complete image name: registry, repository, and a tag or digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The registry part is not a host name with an optional port.
    #[error("{0:?} is not an image name: {1:?} is not a registry host")]
    Registry(String, String),
    /// The repository part has characters or a form that registries do not know.
    #[error("{0:?} is not an image name: repository {1:?} must be lower-case words joined by . _ - and /")]
    Repository(String, String),
    /// The tag is malformed.
    #[error("{0:?} is not an image name: bad tag {1:?}")]
    Tag(String, String),
    /// The digest is malformed.
    #[error("{name:?} is not an image name")]
    Digest {
        /// What was given.
        name: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

impl Reference {
    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path of the repository in its registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only if a digest was given instead.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest after `@`.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository, named by a digest and no tag.
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same name without its digest, if a tag is left to name it.
    pub fn tagged(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }

    /// The short form that people know: `debian:12` for `docker.io/library/debian:12`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(short) = full.strip_prefix("docker.io/") else { return full };
        short.strip_prefix(DEFAULT_FOLDER).filter(|rest| !rest.contains('/')).unwrap_or(short).to_owned()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown: String = text.chars().take(300).collect();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|source| ReferenceError::Digest { name: shown.clone(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, digest.is_none().then_some(DEFAULT_TAG)),
        };
        let registry = match registry {
            Some(host) if is_host(host) => host.to_owned(),
            Some(host) => return Err(ReferenceError::Registry(shown, host.to_owned())),
            None => DEFAULT_REGISTRY.to_owned(),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { registry };
        let folder = if registry == DEFAULT_REGISTRY && !path.contains('/') { DEFAULT_FOLDER } else { "" };
        let repository = format!("{folder}{path}");
        if repository.len() > REPOSITORY_MAX || !path.split('/').all(is_path_word) {
            return Err(ReferenceError::Repository(shown, path.chars().take(300).collect()));
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(shown, tag.chars().take(300).collect()));
        }
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }
}

/// The first word is a registry if it could not be a folder of Docker Hub: it has a dot, a port, or is localhost.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':', '[']) || host == "localhost" => (Some(host), rest),
        _ => (None, text),
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('-')
            && !word.ends_with('-')
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let address = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.');
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && address(v6),
        None => host.len() <= 253 && host.split('.').all(word),
    };
    host_ok && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Lower-case letters and digits, joined inside by one `.`, one or two `_`, or any number of `-`.
fn is_path_word(word: &str) -> bool {
    let mut separator = String::new();
    for c in word.chars() {
        match c {
            'a'..='z' | '0'..='9' => {
                let joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !joined {
                    return false;
                }
                separator.clear();
            }
            '.' | '_' | '-' => separator.push(c),
            _ => return false,
        }
    }
    separator.is_empty() && word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_MAX
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        for (typed, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("someone/thing", "docker.io/someone/thing:latest", "someone/thing:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x/y:1.0", "localhost:5000/x/y:1.0", "localhost:5000/x/y:1.0"),
            ("quay.io/a/b_c/d--e:V1", "quay.io/a/b_c/d--e:V1", "quay.io/a/b_c/d--e:V1"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ] {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("debian@{digest}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest()), (None, Some(&digest)));
        let both: Reference = format!("debian:12@{digest}").parse().unwrap();
        assert_eq!(both.tagged().unwrap().familiar(), "debian:12");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            "/",
            "a//b",
            "Debian",
            "a/../b",
            "../a",
            "a:",
            "a:b:c",
            "a@sha256:12",
            "a b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "ex_ample.com/x",
            "host:99999/x",
            "host:0/x",
            "a.b:/x",
            ".a/b",
            &long,
            "a:\u{e9}",
            "[::1/x",
            "a\0b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?} was taken");
        }
    }
}
