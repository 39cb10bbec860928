//! The container's own name and what it knows of others': `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`, which every
//! container has whatever its image says, as with docker.
//!
//! They are files of the bundle, bound into the container; the keeper sends their content to the guest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the kernel takes.
const LONGEST: usize = 64;

const HOSTS: &str = "127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

const RESOLVER: &str = "# This container has no network but loopback.\n";

/// A file of the bundle and its place in the container.
#[derive(Debug)]
pub struct File {
    /// In the bundle.
    pub name: &'static str,
    /// In the container.
    pub path: &'static str,
    content: fn(&str) -> String,
}

/// All of them.
pub const FILES: [File; 3] = [
    File { name: "resolv.conf", path: "/etc/resolv.conf", content: |_| RESOLVER.to_owned() },
    File { name: "hostname", path: "/etc/hostname", content: |name| format!("{name}\n") },
    File { name: "hosts", path: "/etc/hosts", content: hosts },
];

/// A text that names no host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} cannot be a host name: use up to {LONGEST} letters, digits, '-', '_' and '.', beginning with a letter or digit"
)]
pub struct InvalidName(String);

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write {path}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Checks a `--hostname`.
pub fn check(name: &str) -> Result<(), InvalidName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let whole = !name.ends_with('.') && !name.contains("..");
    if first && whole && name.len() <= LONGEST && name.bytes().all(plain) {
        return Ok(());
    }
    Err(InvalidName(name.to_owned()))
}

/// Writes the files of a container with this host name.
pub fn write(bundle: &Path, hostname: &str) -> Result<(), WriteError> {
    FILES.iter().try_for_each(|file| {
        let path = bundle.join(file.name);
        fs::write(&path, (file.content)(hostname)).map_err(|source| WriteError { path, source })
    })
}

/// A name with a domain has its first part as a second name.
fn hosts(hostname: &str) -> String {
    match hostname.split_once('.') {
        Some((short, _)) => format!("{HOSTS}127.0.0.1\t{hostname} {short}\n"),
        None => format!("{HOSTS}127.0.0.1\t{hostname}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_knows_itself_and_loopback() {
        let bundle = tempfile::tempdir().unwrap();
        write(bundle.path(), "box.example.org").unwrap();
        let read = |name| fs::read_to_string(bundle.path().join(name)).unwrap();
        assert_eq!(read("hostname"), "box.example.org\n");
        assert!(read("hosts").starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"));
        assert!(read("hosts").ends_with("\n127.0.0.1\tbox.example.org box\n"));
        assert!(read("resolv.conf").lines().all(|line| line.starts_with('#')));
    }

    #[test]
    fn host_names_are_plain() {
        for name in ["box", "53e6f07b4da7", "a.b-c_d", &"x".repeat(64)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["", "-a", ".a", "a.", "a..b", "a b", "a\nb", "ä", "a!b", &"x".repeat(65)] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
