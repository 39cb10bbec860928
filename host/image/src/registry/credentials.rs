//! Who to be at a registry: a user and password as given, or from a file in the form of `~/.docker/config.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;
use thiserror::Error;

use crate::reference::Reference;

/// A user and password (or access token).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where credentials came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the caller.
    Given,
    /// From a file in the form of Docker's configuration.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("as given"),
            Self::File(path) => write!(f, "from {}", path.display()),
        }
    }
}

/// Why there are no credentials though somebody set them up.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// The file could not be read.
    #[error("failed to read credentials from {path}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not the form of Docker's configuration. Its content is not shown.
    #[error("{path} is not a file in the form of Docker's config.json (line {line})")]
    Form {
        /// Where.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// The entry does not hold `user:password` in base64.
    #[error("{path} has a malformed entry for {registry}")]
    Entry {
        /// Where.
        path: PathBuf,
        /// For whom.
        registry: String,
    },
    /// The secret is kept by a helper program, which is not run.
    #[error(
        "{path} keeps the credentials for {registry} in a helper or as an identity token, which is not supported; \
         give a user and password"
    )]
    Helper {
        /// Where.
        path: PathBuf,
        /// For whom.
        registry: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials that a file has for an image's registry. No file, or no entry, means none.
pub(super) fn from_file(path: &Path, name: &Reference) -> Result<Option<Credentials>, CredentialsError> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialsError::Read { path: path.to_owned(), source }),
    };
    let config: DockerConfig = serde_json::from_slice(&json)
        .map_err(|error| CredentialsError::Form { path: path.to_owned(), line: error.line() })?;
    let registry = name.registry().to_owned();
    if config.cred_helpers.contains_key(&registry) {
        return Err(CredentialsError::Helper { path: path.to_owned(), registry });
    }
    let entry = scopes(name).into_iter().find_map(|scope| {
        config.auths.iter().find(|(key, _)| host_and_path(key) == scope).map(|(_, entry)| entry)
    });
    match entry {
        None => Ok(None),
        Some(Entry { auth: Some(auth), identitytoken: None }) if !auth.is_empty() => match decode(auth) {
            Some(credentials) => Ok(Some(credentials)),
            None => Err(CredentialsError::Entry { path: path.to_owned(), registry }),
        },
        // With a store, `docker login` leaves an empty entry to say that the store knows.
        Some(entry) if config.creds_store.is_some() || entry.identitytoken.is_some() => {
            Err(CredentialsError::Helper { path: path.to_owned(), registry })
        }
        Some(_) => Ok(None),
    }
}

/// What an entry may be called, the closest first: podman knows entries for repositories and their folders.
fn scopes(name: &Reference) -> Vec<String> {
    let full = format!("{}/{}", name.registry(), name.repository());
    let mut scopes: Vec<String> =
        full.match_indices('/').map(|(end, _)| full[..end].to_owned()).chain([full.clone()]).rev().collect();
    if name.registry() == "docker.io" {
        scopes.extend(["index.docker.io/v1".into(), "index.docker.io".into()]);
    }
    scopes
}

fn host_and_path(key: &str) -> &str {
    key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/')
}

fn decode(auth: &str) -> Option<Credentials> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(config: &str, name: &str) -> Result<Option<Credentials>, CredentialsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, config).unwrap();
        from_file(&path, &name.parse().unwrap())
    }

    fn user(config: &str, name: &str) -> Option<String> {
        look_up(config, name).unwrap().map(|credentials| credentials.user)
    }

    #[test]
    fn entries_are_found_by_registry_and_by_the_closest_folder() {
        // a:x, b:x, c:x
        let config = r#"{"auths":{"quay.io":{"auth":"YTp4"},"quay.io/team":{"auth":"Yjp4"},"https://index.docker.io/v1/":{"auth":"Yzp4"}}}"#;
        assert_eq!(user(config, "quay.io/other/x").as_deref(), Some("a"));
        assert_eq!(user(config, "quay.io/team/x").as_deref(), Some("b"));
        assert_eq!(user(config, "debian").as_deref(), Some("c"));
        assert_eq!(user(config, "localhost:5000/x"), None);
    }

    #[test]
    fn helpers_are_refused_by_name_where_they_matter() {
        let config = r#"{"auths":{"quay.io":{}},"credsStore":"desktop","credHelpers":{"gcr.io":"gcloud"}}"#;
        assert!(matches!(look_up(config, "quay.io/a/b"), Err(CredentialsError::Helper { .. })));
        assert!(matches!(look_up(config, "gcr.io/a/b"), Err(CredentialsError::Helper { .. })));
        assert_eq!(user(config, "debian"), None);
    }

    #[test]
    fn secrets_do_not_show_in_errors() {
        let error = look_up(r#"{"auths":{"quay.io":{"auth":"c2VjcmV0"}}}"#, "quay.io/a/b").unwrap_err();
        assert!(!format!("{error:?}{error}").contains("c2VjcmV0"));
        assert!(!format!("{:?}", decode("dXNlcjpzZWNyZXQ=")).contains("secret"));
    }
}
