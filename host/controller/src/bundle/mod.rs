//! The bundle's `config.json`: read on the host, rewritten for the guest.
//!
//! The guest has no host paths, so what names one is either meaningless there and taken out, or a wish that cannot be
//! met and refused by name. Only files of the bundle itself go along, as content. Everything else passes through untouched, unknown fields included: the agent judges it.

mod files;
mod mounts;
mod namespaces;
mod oci_type;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use self::files::Files;
pub use self::oci_type::is_oci;
use crate::agent::GuestSpec;
use crate::id::ContainerId;

/// Largest `config.json` taken; it has to fit in one message to the agent.
pub const MAX_CONFIG: u64 = 2 * 1024 * 1024;

/// Why a bundle cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// There is no `config.json`.
    #[error("the bundle {} has no config.json: make one with `runc spec` or name another bundle", .0.display())]
    NoConfig(PathBuf),
    /// It could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was not read in time.
    #[error("the bundle {} was not read within {} s: the file system that it or a root is on may hang", folder.display(), limit.as_secs())]
    Late {
        /// The bundle.
        folder: PathBuf,
        /// How long that could take.
        limit: Duration,
    },
    /// It is too large.
    #[error("{} has more than {MAX_CONFIG} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is no JSON. The source tells line and column.
    #[error("{} is not valid JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// A part of a specification that is no JSON, or not of the kind it must be.
    #[error("{0}")]
    Shape(String),
    /// Something the sandbox cannot give.
    #[error("{0}")]
    Unsupported(String),
}

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    folder: PathBuf,
    spec: Map<String, Value>,
}

impl Bundle {
    /// Reads `<folder>/config.json`.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let text = read_config(folder)?;
        let spec = serde_json::from_slice(&text)
            .map_err(|source| BundleError::Json { path: folder.join("config.json"), source })?;
        Ok(Self { folder: folder.to_owned(), spec })
    }

    /// The folder that the specification names as root: `root.path`, relative to the bundle.
    pub fn root_folder(&self) -> PathBuf {
        let named = self.spec.get("root").and_then(|root| root.get("path")).and_then(Value::as_str);
        self.folder.join(named.unwrap_or("rootfs"))
    }

    /// Its init, an OCI `Process` as JSON; empty without one.
    pub fn process(&self) -> Vec<u8> {
        self.spec.get("process").map(|process| process.to_string().into_bytes()).unwrap_or_default()
    }

    /// The same, when nothing else is wanted.
    pub fn into_process(self) -> Vec<u8> {
        self.process()
    }

    /// The whole specification, as JSON.
    pub fn into_json(self) -> Vec<u8> {
        Value::Object(self.spec).to_string().into_bytes()
    }

    /// The specification as the guest gets it. `sandbox` is the pid that stands for the sandbox on the host, if it has one.
    pub fn into_guest_spec(
        mut self,
        container: &ContainerId,
        terminal: bool,
        sandbox: Option<u32>,
    ) -> Result<GuestSpec, BundleError> {
        let mut files = Files::of(&self.folder);
        if let Some(process) = self.spec.get_mut("process") {
            adapt_process(object("process", process)?, terminal);
        }
        let shares_ipc = namespaces::shares_ipc(self.spec.get("linux"));
        if let Some(mounts) = self.spec.get_mut("mounts") {
            mounts::adapt(array("mounts", mounts)?, &mut files, shares_ipc)?;
        }
        if let Some(linux) = self.spec.get_mut("linux") {
            let linux = object("linux", linux)?;
            linux.insert("cgroupsPath".into(), json!(format!("/{container}")));
            // Labels of the host's security module; the guest's kernel has none.
            linux.remove("mountLabel");
            if let Some(namespaces) = linux.get_mut("namespaces") {
                namespaces::adapt(array("linux.namespaces", namespaces)?, sandbox)?;
            }
        }
        Ok(GuestSpec { json: Value::Object(self.spec).to_string().into_bytes(), files: files.taken() })
    }
}

/// The text of `<folder>/config.json`, which is to be a file: a FIFO would keep whoever opens it waiting. The file system may
/// do that all the same.
pub fn read_config(folder: &Path) -> Result<Vec<u8>, BundleError> {
    let path = folder.join("config.json");
    let failed = |source| BundleError::Read { path: path.clone(), source };
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(BundleError::NoConfig(folder.to_owned()));
        }
        other => other.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let size = metadata.len().min(MAX_CONFIG);
    let mut text = Vec::with_capacity(size as usize + 1);
    file.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(BundleError::TooLarge(path));
    }
    Ok(text)
}

/// An OCI `Process` as an exec brings it, as the guest gets it.
pub fn guest_process(json: &[u8], terminal: bool) -> Result<Vec<u8>, BundleError> {
    let mut process: Value = serde_json::from_slice(json).map_err(|error| {
        BundleError::Shape(format!("the process specification is not valid JSON: {error}"))
    })?;
    adapt_process(object("the process specification", &mut process)?, terminal);
    Ok(process.to_string().into_bytes())
}

/// What is told of an OCI `Process` that runs: all else of it was for the guest.
pub fn description(json: &[u8]) -> Vec<u8> {
    let mut process: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    process.retain(|key, _| matches!(key.as_str(), "args" | "env" | "cwd" | "user"));
    Value::Object(process).to_string().into_bytes()
}

fn adapt_process(process: &mut Map<String, Value>, terminal: bool) {
    process.insert("terminal".into(), json!(terminal));
    // Names of profiles and labels on the host; the guest's kernel has neither module. containerd's CRI sets them unasked;
    // where somebody wrote them down, `theca run --bundle` refuses them.
    process.remove("apparmorProfile");
    process.remove("selinuxLabel");
}

fn object<'a>(what: &str, value: &'a mut Value) -> Result<&'a mut Map<String, Value>, BundleError> {
    value.as_object_mut().ok_or_else(|| BundleError::Shape(format!("{what} must be a JSON object")))
}

fn array<'a>(what: &str, value: &'a mut Value) -> Result<&'a mut Vec<Value>, BundleError> {
    value.as_array_mut().ok_or_else(|| BundleError::Shape(format!("{what} must be a JSON array")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.json");
        nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = Bundle::read(folder.path()).unwrap_err();
        assert_eq!(
            crate::error::story(&error),
            format!("failed to read {}: it is not a regular file", config.display())
        );
    }

    fn bundle(config: &str) -> (tempfile::TempDir, Result<Bundle, BundleError>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let bundle = Bundle::read(folder.path());
        (folder, bundle)
    }

    fn in_guest(config: &Value, terminal: bool) -> Result<Value, BundleError> {
        let (_folder, bundle) = bundle(&config.to_string());
        let json = bundle?.into_guest_spec(&"web".parse().unwrap(), terminal, None)?;
        Ok(serde_json::from_slice(&json.json).unwrap())
    }

    #[test]
    fn a_bundle_without_config_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = Bundle::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no config.json: make one with"), "{error}");
    }

    #[test]
    fn invalid_json_is_told_with_its_line() {
        let error = bundle("{\n  \"process\": }").1.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("line 2 column"), "{source}");
    }

    #[test]
    fn host_only_parts_go_and_the_rest_stays() {
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["sh"], "apparmorProfile": "docker-default", "selinuxLabel": "x:y"},
            "linux": {"cgroupsPath": "/k8s.io/web", "mountLabel": "x:y", "sysctl": {"net.core.somaxconn": "1"}},
            "x-unknown": [1, 2],
        });
        let expected = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["sh"], "terminal": true},
            "linux": {"cgroupsPath": "/web", "sysctl": {"net.core.somaxconn": "1"}},
            "x-unknown": [1, 2],
        });
        assert_eq!(in_guest(&config, true).unwrap(), expected);
    }

    #[test]
    fn a_part_of_the_wrong_kind_is_named() {
        let error = in_guest(&json!({"mounts": "none"}), false).unwrap_err();
        assert_eq!(error.to_string(), "mounts must be a JSON array");
    }

    #[test]
    fn the_root_folder_is_relative_to_the_bundle_or_absolute() {
        for (config, expected) in [
            (json!({}), "/bundle/rootfs"),
            (json!({"root": {"path": "fs"}}), "/bundle/fs"),
            (json!({"root": {"path": "/srv/fs"}}), "/srv/fs"),
        ] {
            let Value::Object(spec) = config else { unreachable!() };
            let bundle = Bundle { folder: "/bundle".into(), spec };
            assert_eq!(bundle.root_folder(), Path::new(expected));
        }
    }

    #[test]
    fn of_a_process_that_runs_is_kept_what_is_told() {
        let process =
            br#"{"args":["sh"],"cwd":"/","user":{"uid":1},"capabilities":{"bounding":["CAP_KILL"]},"x":1}"#;
        let kept: Value = serde_json::from_slice(&description(process)).unwrap();
        assert_eq!(kept, json!({"args": ["sh"], "cwd": "/", "user": {"uid": 1}}));
    }

    #[test]
    fn an_exec_has_the_terminal_that_the_request_says() {
        let process =
            guest_process(br#"{"args":["sh"],"terminal":true,"apparmorProfile":"p"}"#, false).unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&process).unwrap(),
            json!({"args": ["sh"], "terminal": false})
        );
        assert!(matches!(guest_process(b"[]", false), Err(BundleError::Shape(_))));
        assert!(matches!(guest_process(b"{", false), Err(BundleError::Shape(_))));
    }
}
