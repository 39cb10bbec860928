//! Files of a bundle that its configuration binds, such as `/etc/hosts`: copied into the container's own bundle, from where
//! the keeper sends them to the guest.
//!
//! The copy is made with the container, so that `theca start` finds it however long after. As in the keeper, only regular
//! files below the bundle are read, on a path without symbolic links; every other bind mount would show what the guest does
//! not have, and is refused.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use theca_image::beneath;

use super::bundle::BundleError;

/// As many as the keeper takes, and as much.
const MAX_FILES: usize = 16;
const MAX_BYTES: u64 = 256 * 1024;
/// Where they are in the container's own bundle.
const FOLDER: &str = "files";

/// One file, read.
#[derive(Debug)]
pub struct BoundFile {
    /// In the container's own bundle.
    name: String,
    content: Vec<u8>,
    mode: u32,
}

/// Reads the files of `bundle` that `spec` binds, and has `spec` name their copies.
pub fn take(bundle: &Path, spec: &mut Spec) -> Result<Vec<BoundFile>, BundleError> {
    let mut taken = Vec::new();
    let mut room = MAX_BYTES;
    for mount in spec.mounts_mut().iter_mut().flatten().filter(|mount| is_bind(mount)) {
        let source = mount.source().clone().unwrap_or_default();
        let refused = |why: String| BundleError::Bind {
            path: bundle.join("config.json"),
            bound: source.clone(),
            at: mount.destination().clone(),
            why,
        };
        let path = bundle.join(&source);
        let inside = path.strip_prefix(bundle).ok();
        let read = |source| BundleError::Read { path: path.clone(), source };
        let opened = match inside {
            Some(inside) => beneath::open(bundle, inside).map_err(read)?,
            None => None,
        };
        let Some(file) = opened else {
            return Err(refused(
                "it is no file of the bundle, and a sandbox has no files of the host".into(),
            ));
        };
        let mode = file.metadata().map_err(read)?.permissions().mode() & 0o777;
        let mut content = Vec::new();
        file.take(room + 1).read_to_end(&mut content).map_err(read)?;
        room = match room.checked_sub(content.len() as u64) {
            Some(room) if taken.len() < MAX_FILES => room,
            _ => {
                return Err(refused(format!(
                    "a bundle shares at most {MAX_FILES} files with its container, of {MAX_BYTES} bytes together"
                )));
            }
        };
        let name = format!("{FOLDER}/{}", taken.len());
        mount.set_source(Some(name.clone().into()));
        taken.push(BoundFile { name, content, mode });
    }
    Ok(taken)
}

/// Writes them into a container's own bundle.
pub fn write(files: &[BoundFile], bundle: &Path) -> Result<(), BundleError> {
    let failed = |path: PathBuf| move |source| BundleError::Write { path, source };
    let folder = bundle.join(FOLDER);
    if !files.is_empty() {
        fs::create_dir_all(&folder).map_err(failed(folder))?;
    }
    for file in files {
        let path = bundle.join(&file.name);
        let written = fs::write(&path, &file.content)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(file.mode)));
        written.map_err(failed(path))?;
    }
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    let mut options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind") || options.any(|option| option == "bind" || option == "rbind")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use serde_json::{Value, json};

    use super::*;

    fn bundle() -> tempfile::TempDir {
        let bundle = tempfile::tempdir().unwrap();
        fs::create_dir(bundle.path().join("etc")).unwrap();
        fs::write(bundle.path().join("etc/hosts"), "127.0.0.1 here\n").unwrap();
        fs::set_permissions(bundle.path().join("etc/hosts"), Permissions::from_mode(0o640)).unwrap();
        bundle
    }

    fn taken(bundle: &Path, mounts: Value) -> Result<(Vec<BoundFile>, Value), BundleError> {
        let config = json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "mounts": mounts});
        let mut spec: Spec = serde_json::from_value(config).unwrap();
        let files = take(bundle, &mut spec)?;
        Ok((files, serde_json::to_value(spec.mounts()).unwrap()))
    }

    #[test]
    fn files_of_the_bundle_go_into_the_container_s_own() {
        let (bundle, own) = (bundle(), tempfile::tempdir().unwrap());
        let absolute = bundle.path().join("etc/hosts");
        let mounts = json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/etc/hosts", "type": "bind", "source": "etc/hosts"},
            {"destination": "/etc/other", "source": absolute, "options": ["rbind", "ro"]},
        ]);
        let (files, mounts) = taken(bundle.path(), mounts).unwrap();
        let sources = [0, 1, 2].map(|index| mounts[index]["source"].as_str().unwrap());
        assert_eq!(sources, ["proc", "files/0", "files/1"]);
        write(&files, own.path()).unwrap();
        for source in &sources[1..] {
            let path = own.path().join(source);
            assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 here\n");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        }
    }

    #[test]
    fn what_is_no_file_of_the_bundle_is_refused_by_name() {
        let bundle = bundle();
        symlink("/etc/passwd", bundle.path().join("link")).unwrap();
        for source in ["/etc/resolv.conf", "link", "../secret", "etc", "missing", ""] {
            let mount = json!([{"destination": "/etc/resolv.conf", "type": "bind", "source": source}]);
            let error = taken(bundle.path(), mount).unwrap_err();
            assert!(matches!(error, BundleError::Bind { .. }), "{error}");
            let sentence = error.to_string();
            assert!(sentence.contains(&format!("binds {source:?} at \"/etc/resolv.conf\"")), "{sentence}");
        }
    }

    #[test]
    fn files_are_few_and_small() {
        let bundle = bundle();
        fs::write(bundle.path().join("large"), vec![0; 300 << 10]).unwrap();
        let bind = |source: &str| json!({"destination": "/x", "type": "bind", "source": source});
        let refusals = [json!([bind("large")]), json!(vec![bind("etc/hosts"); 17])];
        for mounts in refusals {
            let error = taken(bundle.path(), mounts).unwrap_err().to_string();
            assert!(error.contains("at most 16 files") && error.contains("262144 bytes"), "{error}");
        }
    }
}
