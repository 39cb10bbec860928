//! A registry on loopback: Debian's docker-registry, filled by skopeo.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::fixtures;
use crate::invocation::Invocation;
use crate::wait::eventually;

/// The user that a registry with a password knows.
pub const USER: &str = "theca";
/// Their password.
pub const PASSWORD: &str = "sheath";
/// An htpasswd line for them; bcrypt, the only hash that docker-registry takes.
const HTPASSWD: &str = "theca:$2y$05$thecathecathecathecateu7Dy9tXlhPyx8/O9p8wpJ6eBdevewgC\n";

/// A running registry. Dropped, it is ended and its contents are removed.
pub struct Registry {
    folder: TempDir,
    port: u16,
    tls: bool,
    password: bool,
    child: Child,
}

impl Registry {
    /// Without TLS and open to all.
    pub fn start() -> Self {
        Self::start_with(false, false)
    }

    /// With TLS (a certificate of its own making, see [`Registry::certificate`]) and only for [`USER`].
    pub fn start_closed() -> Self {
        Self::start_with(true, true)
    }

    fn start_with(tls: bool, password: bool) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("registry-")
            .tempdir_in("/var/tmp")
            .expect("failed to make a folder");
        // Free a moment ago, and nobody else looks for one here.
        let probe = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = probe.expect("failed to find a free port").port();
        let path = folder.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n"
        );
        if tls {
            make_certificate(folder.path());
            config += &format!("  tls: {{certificate: {path}/cert.pem, key: {path}/key.pem}}\n");
        }
        if password {
            std::fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("failed to write htpasswd");
            config += &format!("auth: {{htpasswd: {{realm: theca, path: {path}/htpasswd}}}}\n");
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("failed to write the registry's configuration");
        let log = std::fs::File::create(folder.path().join("log")).expect("failed to make a log file");
        let mut serve = Command::new("docker-registry");
        serve.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = serve.spawn().expect("failed to start docker-registry");
        let mut registry = Self { folder, port, tls, password, child };
        eventually("the registry to listen", || {
            if let Ok(Some(status)) = registry.child.try_wait() {
                let log = std::fs::read_to_string(registry.folder.path().join("log")).unwrap_or_default();
                panic!("docker-registry ended with {status}: {log}");
            }
            TcpStream::connect(("127.0.0.1", registry.port)).is_ok()
        });
        registry
    }

    /// The reference of a repository here, such as `127.0.0.1:40123/debian:13`.
    pub fn reference(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    /// The certificate of the authority to trust, in PEM form.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Pushes the Debian image under this name and gives its reference.
    pub fn push_debian(&self, repository: &str) -> String {
        self.push(&format!("{}", fixtures::debian_layout().display()), repository)
    }

    /// Pushes an image of an OCI layout, named as skopeo names it, under this name and gives its reference.
    pub fn push(&self, image: &str, repository: &str) -> String {
        let reference = self.reference(repository);
        let mut args = vec!["copy".to_owned(), "--quiet".into()];
        if self.tls {
            args.push(format!("--dest-cert-dir={}", self.client_certificates().display()));
        } else {
            args.push("--dest-tls-verify=false".into());
        }
        if self.password {
            args.push(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        args.push(format!("oci:{image}"));
        args.push(format!("docker://{reference}"));
        Invocation::new("skopeo", &args).run().success();
        reference
    }

    /// skopeo wants a folder of certificates whose names end in .crt.
    fn client_certificates(&self) -> PathBuf {
        let folder = self.folder.path().join("trusted");
        std::fs::create_dir_all(&folder).expect("failed to make a folder");
        std::fs::copy(self.certificate(), folder.join("ca.crt")).expect("failed to copy the certificate");
        folder
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of its own and a certificate from it for 127.0.0.1, valid for a day.
fn make_certificate(folder: &Path) {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let make = |name: &str, key: &str, certificate: &str| {
        let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let what = ["-days", "1", "-subj", name, "-keyout", &path(key), "-out", &path(certificate)];
        Invocation::new("openssl", &kind).args(&what)
    };
    make("/CN=theca-tests-authority", "ca-key.pem", "ca.pem").run().success();
    make("/CN=theca-tests", "key.pem", "cert.pem")
        .args(&["-CA", &path("ca.pem"), "-CAkey", &path("ca-key.pem")])
        .args(&["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .run()
        .success();
}
