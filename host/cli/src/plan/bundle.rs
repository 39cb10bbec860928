//! Reading an OCI bundle and folders that become root file systems.

use std::path::{Path, PathBuf};
use std::{fs, io};

use oci_spec::runtime::Spec;

use super::bound_files::{self, BoundFile};

/// Why a folder cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The folder is not there.
    #[error("failed to find the folder {path}")]
    Folder {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is not a folder")]
    NotAFolder(PathBuf),
    /// There is no config.json.
    #[error("{0} is no OCI bundle: it has no config.json; `runc spec` writes one to begin with")]
    NoConfig(PathBuf),
    /// It cannot be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A copy of a file of it cannot be made.
    #[error("failed to write {path}")]
    Write {
        /// The copy.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no configuration.
    #[error("{path} is no valid OCI runtime configuration; correct it")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// It lacks a part.
    #[error("{path} has no {part}; add it")]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What is missing.
        part: &'static str,
    },
    /// It asks for a security module of the host's.
    #[error(
        "{path} sets {part} to {value:?}, which a container in a virtual machine cannot have: the guest's kernel has neither AppArmor nor SELinux; take it out"
    )]
    Label {
        /// The file.
        path: PathBuf,
        /// Where it does.
        part: &'static str,
        /// What it asks for.
        value: String,
    },
    /// It joins a namespace of the host's.
    #[error(
        "{path} joins the host's {kind} namespace {namespace}, which a container in a virtual machine cannot: it has namespaces of its own guest; take linux.namespaces' path out"
    )]
    Namespace {
        /// The file.
        path: PathBuf,
        /// Which kind.
        kind: String,
        /// What it names.
        namespace: PathBuf,
    },
    /// It shows what the guest does not have.
    #[error("{path} binds {bound:?} at {at:?}: {why}; put a copy into the bundle, or take the mount out")]
    Bind {
        /// The file.
        path: PathBuf,
        /// The mount's source.
        bound: PathBuf,
        /// The mount's destination.
        at: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// The folder that its `root.path` names, absolute.
    pub rootfs: PathBuf,
    /// Its configuration.
    pub spec: Box<Spec>,
    /// Its files that the configuration binds.
    pub files: Vec<BoundFile>,
}

/// Reads a bundle.
pub fn read(path: &Path) -> Result<Bundle, BundleError> {
    let folder = root_folder(path)?;
    let path = folder.join("config.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(BundleError::NoConfig(folder)),
        Err(source) => return Err(BundleError::Read { path, source }),
    };
    let mut spec: Box<Spec> = serde_json::from_slice(&text)
        .map_err(|source| BundleError::Malformed { path: path.clone(), source })?;
    let root = spec.root().as_ref().ok_or_else(|| BundleError::Lacks { path: path.clone(), part: "root" })?;
    let rootfs = root_folder(&folder.join(root.path()))?;
    let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
    if args.is_none_or(Vec::is_empty) {
        return Err(BundleError::Lacks { path, part: "process.args" });
    }
    if let Some((part, value)) = label(&spec) {
        return Err(BundleError::Label { path, part, value: value.to_owned() });
    }
    if let Some((kind, namespace)) = joined(&spec) {
        return Err(BundleError::Namespace { path, kind, namespace });
    }
    let files = bound_files::take(&folder, &mut spec)?;
    Ok(Bundle { folder, rootfs, spec, files })
}

/// The first namespace that is to be joined. A pod's containers name those of their sandbox, and the keeper gives them the
/// guest's instead; a bundle that is run by itself has no sandbox, and means the host's.
fn joined(spec: &Spec) -> Option<(String, PathBuf)> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().find_map(|namespace| {
        let path = namespace.path().clone().filter(|path| !path.as_os_str().is_empty())?;
        let kind = serde_json::to_value(namespace.typ()).ok()?;
        Some((kind.as_str().unwrap_or_default().to_owned(), path))
    })
}

/// The first profile or label that the guest could not obey. The keeper drops them, for containerd sets them unasked; here
/// somebody has written them down.
fn label(spec: &Spec) -> Option<(&'static str, &str)> {
    let process = spec.process().as_ref();
    let asked = [
        ("process.apparmorProfile", process.and_then(|process| process.apparmor_profile().as_deref())),
        ("process.selinuxLabel", process.and_then(|process| process.selinux_label().as_deref())),
        ("linux.mountLabel", spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref())),
    ];
    // What is empty, or said to be unconfined, asks for nothing.
    let binding = |value: &&str| !value.is_empty() && *value != "unconfined";
    asked.into_iter().find_map(|(part, value)| Some((part, value.filter(binding)?)))
}

/// The absolute path of a folder that exists.
pub fn root_folder(path: &Path) -> Result<PathBuf, BundleError> {
    let folder =
        fs::canonicalize(path).map_err(|source| BundleError::Folder { path: path.to_owned(), source })?;
    if folder.is_dir() { Ok(folder) } else { Err(BundleError::NotAFolder(folder)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle_with(config: Option<&str>) -> Result<Bundle, BundleError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rootfs")).unwrap();
        if let Some(config) = config {
            fs::write(folder.path().join("config.json"), config).unwrap();
        }
        read(folder.path())
    }

    #[test]
    fn a_bundle_names_its_root_and_command() {
        let bundle = bundle_with(Some(
            r#"{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["true"],"cwd":"/","user":{"uid":0,"gid":0}}}"#,
        ))
        .unwrap();
        assert!(bundle.rootfs.is_absolute() && bundle.rootfs.ends_with("rootfs"));
    }

    #[test]
    fn profiles_and_labels_of_the_host_s_are_refused_by_name() {
        let config = |process: &str, linux: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"linux":{{{linux}}},
                "process":{{"args":["true"],"cwd":"/","user":{{"uid":0,"gid":0}}{process}}}}}"#
            );
            bundle_with(Some(&json))
        };
        for (process, linux, named) in [
            (r#","apparmorProfile":"docker-default""#, "", "process.apparmorProfile to \"docker-default\""),
            (r#","selinuxLabel":"u:r:t""#, "", "process.selinuxLabel to \"u:r:t\""),
            ("", r#""mountLabel":"u:r:t""#, "linux.mountLabel to \"u:r:t\""),
        ] {
            let error = config(process, linux).unwrap_err();
            assert!(
                matches!(error, BundleError::Label { .. }) && error.to_string().contains(named),
                "{error}"
            );
        }
        config(r#","apparmorProfile":"unconfined","selinuxLabel":"""#, r#""mountLabel":"""#).unwrap();
    }

    #[test]
    fn namespaces_of_the_host_s_are_refused_by_name() {
        let config = |namespaces: &str| {
            let json = format!(
                r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"linux":{{"namespaces":[{namespaces}]}},
                "process":{{"args":["true"],"cwd":"/","user":{{"uid":0,"gid":0}}}}}}"#
            );
            bundle_with(Some(&json))
        };
        for kind in ["network", "ipc", "uts", "pid", "mount", "cgroup"] {
            let one = format!(r#"{{"type":"mount"}},{{"type":"{kind}","path":"/var/run/netns/x"}}"#);
            let error = config(&one).unwrap_err();
            let named = format!("joins the host's {kind} namespace /var/run/netns/x");
            assert!(error.to_string().contains(&named), "{error}");
        }
        config(r#"{"type":"mount"},{"type":"network","path":""}"#).unwrap();
    }

    #[test]
    fn what_is_no_bundle_is_told_apart() {
        assert!(matches!(bundle_with(None), Err(BundleError::NoConfig(_))));
        assert!(matches!(bundle_with(Some("{\"root\":")), Err(BundleError::Malformed { .. })));
        assert!(matches!(bundle_with(Some("{}")), Err(BundleError::Lacks { part: "root", .. })));
        let no_args = bundle_with(Some(r#"{"root":{"path":"rootfs"}}"#));
        assert!(matches!(no_args, Err(BundleError::Lacks { part: "process.args", .. })));
        let no_root = bundle_with(Some(r#"{"root":{"path":"elsewhere"}}"#));
        assert!(matches!(no_root, Err(BundleError::Folder { .. })));
        assert!(matches!(read(Path::new("/nowhere")), Err(BundleError::Folder { .. })));
        assert!(matches!(read(Path::new("/dev/null")), Err(BundleError::NotAFolder(_))));
    }
}
