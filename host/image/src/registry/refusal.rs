//! What a registry's refusal means to a person. The client says what happened on the wire; whoever pulls wants to know
//! whether to log in, to correct a password, or to make another certificate.

use std::error::Error;

use oci_client::errors::{OciDistributionError, OciErrorCode};
use thiserror::Error;

use super::credentials::{Credentials, Origin};
use crate::reference::Reference;

/// How rustls names a certificate that says CA:TRUE where a server's own is expected.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// Why a registry gives nothing, and what to do about it.
#[derive(Debug, Error)]
pub enum Refusal {
    /// It asks who we are, and nobody said.
    #[error(
        "{registry} does not give {name} without a login: there is no such repository, or it needs one; use `theca image \
         pull --creds USER:PASSWORD`, or `docker login {registry}`, whose config.json is read"
    )]
    LoginNeeded {
        /// Of what.
        name: String,
        /// Who.
        registry: String,
        /// Its words.
        source: OciDistributionError,
    },
    /// It knows who we are, or does not believe it.
    #[error(
        "{registry} does not give {name} to user {user:?} ({origin}): correct the password, or ask for the permission"
    )]
    Denied {
        /// Of what.
        name: String,
        /// Who.
        registry: String,
        /// Whom.
        user: String,
        /// Where user and password came from.
        origin: Origin,
        /// Its words.
        source: OciDistributionError,
    },
    /// Its certificate is an authority's.
    #[error(
        "the certificate of {registry} is a certificate authority's (CA:TRUE), which no server may show: make the server's \
         own with `openssl req -addext basicConstraints=critical,CA:FALSE …`, signed by that authority or by itself, and give \
         the signer's with --ca-file"
    )]
    AuthorityAsServer {
        /// Who.
        registry: String,
        /// The verifier's words.
        source: OciDistributionError,
    },
}

/// Explains `source`, a failure to get something of `name` as `who`, or gives it back.
pub(super) fn explain(
    name: &Reference,
    who: Option<&(Credentials, Origin)>,
    source: OciDistributionError,
) -> Result<Box<Refusal>, OciDistributionError> {
    let registry = name.registry().to_owned();
    if shows_authority(&source) {
        return Ok(Refusal::AuthorityAsServer { registry, source }.into());
    }
    if !denies(&source) {
        return Err(source);
    }
    let name = name.familiar();
    Ok(Box::new(match who {
        None => Refusal::LoginNeeded { name, registry, source },
        Some((Credentials { user, .. }, origin)) => {
            Refusal::Denied { name, registry, user: user.clone(), origin: origin.clone(), source }
        }
    }))
}

fn denies(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
            true
        }
        OciDistributionError::RegistryError { envelope, .. } => {
            let denial = [OciErrorCode::Unauthorized, OciErrorCode::Denied];
            envelope.errors.iter().any(|error| denial.contains(&error.code))
        }
        OciDistributionError::ServerError { code, .. } => matches!(code, 401 | 403),
        _ => false,
    }
}

/// The verifier's own error is wrapped in others of several crates; only its name gets through all of them.
fn shows_authority(error: &OciDistributionError) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains(CA_AS_SERVER) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn unauthorized() -> OciDistributionError {
        OciDistributionError::UnauthorizedError { url: "https://r.example/v2/".into() }
    }

    fn words(who: Option<(Credentials, Origin)>, source: OciDistributionError) -> String {
        let name = "r.example/team/app:1".parse().unwrap();
        explain(&name, who.as_ref(), source).map_or_else(|_| "unexplained".into(), |error| error.to_string())
    }

    #[test]
    fn nobody_is_told_how_to_log_in() {
        let words = words(None, unauthorized());
        assert!(words.contains("--creds USER:PASSWORD"), "{words}");
        assert!(words.contains("`docker login r.example`"), "{words}");
    }

    #[test]
    fn somebody_is_told_who_they_were_and_where_that_came_from() {
        let who = |origin| Some((Credentials { user: "ann".into(), password: "secret".into() }, origin));
        let given = words(who(Origin::Given), unauthorized());
        assert!(given.contains("\"ann\"") && !given.contains("secret"), "{given}");
        let file = Origin::File(PathBuf::from("/root/.docker/config.json"));
        let denied = OciDistributionError::AuthenticationFailure("no".into());
        assert!(words(who(file), denied).contains("/root/.docker/config.json"));
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        let missing = OciDistributionError::ImageManifestNotFoundError("x".into());
        assert_eq!(words(None, missing), "unexplained");
        let broken =
            OciDistributionError::ServerError { code: 500, url: String::new(), message: String::new() };
        assert_eq!(words(None, broken), "unexplained");
    }

    #[test]
    fn a_certificate_authority_in_place_of_a_server_is_explained() {
        let verifier =
            std::io::Error::other("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))");
        let words = words(None, OciDistributionError::IoError(verifier));
        assert!(words.contains("CA:FALSE") && words.contains("--ca-file"), "{words}");
    }
}
