//! Talks to one registry about one repository: logs in, gets manifests, gets blobs to files.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use crate::digest::{Digest, Hasher};
use crate::limits::DOCUMENT_MAX;
use crate::progress::{Progress, Step};
use crate::reference::Reference;

use super::credentials::{self, Credentials, Origin};
use super::guard::guarded;
use super::refusal;
use super::{PullOptions, RegistryError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Of silence, not of the whole download.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Downloads of one blob that break off before it is given up.
const ATTEMPTS: u32 = 4;
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A registry that has let us in.
pub(super) struct Connection {
    client: Client,
    auth: RegistryAuth,
    /// Whom `auth` names.
    who: Option<(Credentials, Origin)>,
    name: Reference,
}

impl Connection {
    pub(super) async fn open(name: &Reference, options: &PullOptions) -> Result<Self, RegistryError> {
        let verify = options.tls_verify.unwrap_or_else(|| !is_loopback(name.registry()));
        let who = who(name, options)?;
        let auth = who.clone().map_or(RegistryAuth::Anonymous, |(Credentials { user, password }, _)| {
            RegistryAuth::Basic(user, password)
        });
        let login = |source| {
            let login = |source| RegistryError::Login { registry: name.registry().to_owned(), source };
            refusal::explain(name, who.as_ref(), source).map_or_else(login, RegistryError::from)
        };
        let client = client(ClientProtocol::Https, verify, options)?.map_err(login)?;
        let image = image(name);
        let asked = client.auth(&image, &auth, RegistryOperation::Pull);
        let client = match guarded(name.registry(), asked).await? {
            Ok(_) => client,
            Err(OciDistributionError::RequestError(error)) if !verify => {
                tracing::debug!(%error, registry = name.registry(), "no TLS there, trying plain HTTP");
                let plain = self::client(ClientProtocol::Http, verify, options)?.map_err(login)?;
                let asked = plain.auth(&image, &auth, RegistryOperation::Pull);
                guarded(name.registry(), asked).await?.map_err(login)?;
                plain
            }
            Err(error) => return Err(login(error)),
        };
        Ok(Self { client, auth, who, name: name.clone() })
    }

    /// The manifest or index of the name, or of a digest in its repository.
    pub(super) async fn manifest(&self, digest: Option<Digest>) -> Result<(Digest, Vec<u8>), RegistryError> {
        let name = digest.map_or_else(|| self.name.clone(), |digest| self.name.at(digest));
        let missing = |source| RegistryError::Manifest { name: name.familiar(), source };
        let refused = |source| {
            refusal::explain(&name, self.who.as_ref(), source).map_or_else(missing, RegistryError::from)
        };
        let image = image(&name);
        let asked = self.client.pull_manifest_raw(&image, &self.auth, &MANIFEST_TYPES);
        let (json, _) = guarded(name.registry(), asked).await?.map_err(refused)?;
        let found = Digest::of(&json);
        let registry = || self.name.registry().to_owned();
        if json.len() as u64 > DOCUMENT_MAX {
            let what = format!("manifest {found}");
            return Err(RegistryError::TooLarge { what, size: json.len() as u64, limit: DOCUMENT_MAX });
        }
        match digest {
            Some(expected) if expected != found => {
                Err(RegistryError::Mismatch { registry: registry(), what: "a manifest", expected, found })
            }
            _ => Ok((found, json.into())),
        }
    }

    /// Gets a blob of a known size to a file, and verifies it. What breaks off goes on where it was.
    pub(super) async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let mut blob = PartialBlob::create(*digest, size, path)?;
        let mut attempt = 1;
        loop {
            match self.rest_of(&mut blob, progress).await {
                Err(RegistryError::Blob { source, .. }) if attempt < ATTEMPTS && is_transient(&source) => {
                    tracing::debug!(%digest, attempt, error = %source, "a download broke off");
                    tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                    attempt += 1;
                }
                Ok(()) => break,
                Err(error) => return Err(error),
            }
        }
        let found = blob.hasher.finish();
        if found == *digest {
            return Ok(());
        }
        let registry = self.name.registry().to_owned();
        Err(RegistryError::Mismatch { registry, what: "a blob", expected: *digest, found })
    }

    async fn rest_of(
        &self,
        blob: &mut PartialBlob<'_>,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let (digest, size) = (blob.digest, blob.size);
        let failed = |source| RegistryError::Blob { name: self.name.familiar(), digest, source };
        let refused = |error| {
            refusal::explain(&self.name, self.who.as_ref(), error)
                .map_or_else(|error| failed(io::Error::other(error)), RegistryError::from)
        };
        let descriptor = OciDescriptor { digest: digest.to_string(), ..OciDescriptor::default() };
        let image = image(&self.name);
        let mut stream = if blob.done == 0 {
            let asked = self.client.pull_blob_stream(&image, &descriptor);
            guarded(self.name.registry(), asked).await?.map_err(refused)?
        } else {
            let asked = self.client.pull_blob_stream_partial(&image, &descriptor, blob.done, None);
            match guarded(self.name.registry(), asked).await?.map_err(refused)? {
                BlobResponse::Partial(stream) => stream,
                BlobResponse::Full(stream) => {
                    blob.start_again()?;
                    stream
                }
            }
        };
        while blob.done < size {
            let Some(chunk) = stream.next().await else {
                let words = format!("ended after {} of {size} bytes", blob.done);
                return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, words)));
            };
            let chunk = chunk.map_err(failed)?;
            if chunk.len() as u64 > size - blob.done {
                let words = format!("is longer than its {size} bytes");
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, words)));
            }
            blob.append(&chunk)?;
            progress.advanced(Step::Fetch(digest), blob.done, Some(size));
            if progress.cancelled() {
                return Err(RegistryError::Cancelled);
            }
        }
        Ok(())
    }
}

/// Who to be: what was given goes before what the file says.
fn who(name: &Reference, options: &PullOptions) -> Result<Option<(Credentials, Origin)>, RegistryError> {
    if let Some(given) = &options.credentials {
        return Ok(Some((given.clone(), Origin::Given)));
    }
    let Some(file) = &options.auth_file else { return Ok(None) };
    Ok(credentials::from_file(file, name)?.map(|found| (found, Origin::File(file.clone()))))
}

/// A blob's file on its way to being complete.
struct PartialBlob<'a> {
    digest: Digest,
    size: u64,
    path: &'a Path,
    file: File,
    hasher: Hasher,
    done: u64,
}

impl<'a> PartialBlob<'a> {
    fn create(digest: Digest, size: u64, path: &'a Path) -> Result<Self, RegistryError> {
        let unwritten = |source| RegistryError::Write { path: path.to_owned(), source };
        let file = File::create(path).map_err(unwritten)?;
        Ok(Self { digest, size, path, file, hasher: Hasher::default(), done: 0 })
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), RegistryError> {
        let unwritten = |source| RegistryError::Write { path: self.path.to_owned(), source };
        self.file.write_all(chunk).map_err(unwritten)?;
        self.hasher.update(chunk);
        self.done += chunk.len() as u64;
        Ok(())
    }

    fn start_again(&mut self) -> Result<(), RegistryError> {
        let unwritten = |source| RegistryError::Write { path: self.path.to_owned(), source };
        self.file.rewind().and_then(|()| self.file.set_len(0)).map_err(unwritten)?;
        (self.hasher, self.done) = (Hasher::default(), 0);
        Ok(())
    }
}

/// Whether another attempt may help: the network, not what was said over it.
fn is_transient(error: &io::Error) -> bool {
    let said_no = error.get_ref().and_then(|inner| inner.downcast_ref::<OciDistributionError>());
    !matches!(said_no, Some(error) if !matches!(error, OciDistributionError::RequestError(_)))
        && error.kind() != io::ErrorKind::InvalidData
}

fn client(
    protocol: ClientProtocol,
    verify: bool,
    options: &PullOptions,
) -> Result<Result<Client, OciDistributionError>, RegistryError> {
    install_tls()?;
    let mut config = ClientConfig {
        protocol,
        accept_invalid_certificates: !verify,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("theca/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if let Some(path) = &options.ca_file {
        let data =
            std::fs::read(path).map_err(|source| RegistryError::CaFile { path: path.clone(), source })?;
        config.extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    Ok(Client::try_from(config))
}

/// Makes ring rustls' provider for the process, unless the program has chosen one. Without any CA certificates on the
/// machine oci-client would panic, even where plain HTTP is all that is wanted.
fn install_tls() -> Result<(), RegistryError> {
    static CERTIFICATES: OnceLock<bool> = OnceLock::new();
    let found = CERTIFICATES.get_or_init(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("the program's own TLS provider is used");
        }
        !rustls_native_certs::load_native_certs().certs.is_empty()
    });
    if *found { Ok(()) } else { Err(RegistryError::NoCertificates) }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => registry,
    };
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn image(name: &Reference) -> oci_client::Reference {
    let (registry, repository) = (name.registry().to_owned(), name.repository().to_owned());
    match (name.digest(), name.tag()) {
        (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            oci_client::Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_only() {
        for here in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8", "[::1]:5000"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["docker.io", "localhost.example.org", "10.0.0.1:5000", "[::2]:80"] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }
}
