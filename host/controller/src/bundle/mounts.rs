//! `mounts` of a specification: bind mounts name host paths, which a guest does not have.

use serde_json::{Value, json};

use super::BundleError;
use super::files::Files;

/// Files that engines bind from the host, which mean nothing to a guest without a network.
const GUEST_PROVIDES: &[&str] = &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// Where shared memory is, in containers and in the guest itself.
const SHARED_MEMORY: &str = "/dev/shm";

/// Takes the bundle's own files along, takes out or replaces what the guest provides, refuses every other bind mount. A pod's
/// engine binds the pod's shared memory: the guest's own is that, for containers that share its IPC.
pub fn adapt(mounts: &mut Vec<Value>, files: &mut Files, shares_ipc: bool) -> Result<(), BundleError> {
    for mount in mounts.iter_mut().filter(|mount| is_bind(mount)) {
        if let Some(source) = files.take(text(mount, "source"))? {
            mount["source"] = json!(source);
        }
    }
    let mut refused = None;
    mounts.retain_mut(|mount| {
        if !is_bind(mount) || files.has(text(mount, "source")) {
            return true;
        }
        let destination = text(mount, "destination").to_owned();
        if destination == SHARED_MEMORY && shares_ipc {
            mount["source"] = json!(SHARED_MEMORY);
            return true;
        }
        if destination == SHARED_MEMORY {
            *mount = json!({
                "destination": SHARED_MEMORY, "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777"],
            });
            return true;
        }
        if !GUEST_PROVIDES.contains(&destination.as_str()) {
            refused.get_or_insert((text(mount, "source").to_owned(), destination));
        }
        false
    });
    match refused {
        None => Ok(()),
        Some((source, destination)) => Err(BundleError::Unsupported(format!(
            "the bind mount of {source} at {destination} is not supported: a sandbox has no host folders yet (volumes are \
             the next capability)"
        ))),
    }
}

fn is_bind(mount: &Value) -> bool {
    let options = mount.get("options").and_then(Value::as_array);
    text(mount, "type") == "bind"
        || options.is_some_and(|options| {
            options.iter().any(|option| matches!(option.as_str(), Some("bind" | "rbind")))
        })
}

fn text<'a>(mount: &'a Value, field: &str) -> &'a str {
    mount.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn adapted(mounts: Value) -> Result<Value, BundleError> {
        adapted_with(mounts, &mut Files::of(Path::new("/nowhere")))
    }

    fn adapted_with(mounts: Value, files: &mut Files) -> Result<Value, BundleError> {
        let Value::Array(mut mounts) = mounts else { unreachable!() };
        adapt(&mut mounts, files, false)?;
        Ok(Value::Array(mounts))
    }

    #[test]
    fn a_file_of_the_bundle_stays_bound() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        let mut files = Files::of(bundle.path());
        let bind =
            |destination, source| json!({"destination": destination, "type": "bind", "source": source});
        let mounts = json!([bind("/etc/hosts", "hosts"), bind("/etc/hostname", "/host/file")]);
        let mounts = adapted_with(mounts, &mut files).unwrap();
        let source = bundle.path().join("hosts").display().to_string();
        assert_eq!(mounts, json!([bind("/etc/hosts", &source)]));
        let files = files.taken();
        assert_eq!((files.len(), files[0].source.as_str()), (1, &*source));
        assert_eq!(files[0].content, b"127.0.0.1 localhost\n");
    }

    #[test]
    fn a_volume_is_refused_by_name() {
        for mount in [
            json!({"destination": "/data", "type": "bind", "source": "/srv/data"}),
            json!({"destination": "/data", "source": "/srv/data", "options": ["rbind", "ro"]}),
        ] {
            let error = adapted(json!([mount])).unwrap_err().to_string();
            assert!(error.starts_with("the bind mount of /srv/data at /data is not supported"), "{error}");
        }
    }

    #[test]
    fn what_the_guest_has_of_its_own_is_not_bound() {
        let bind = |destination| json!({"destination": destination, "type": "bind", "source": "/host/file"});
        let proc = json!({"destination": "/proc", "type": "proc", "source": "proc"});
        let mounts = json!([proc, bind("/etc/hosts"), bind("/etc/resolv.conf"), bind("/dev/shm")]);
        let mounts = adapted(mounts).unwrap();
        assert_eq!(mounts[0], proc);
        assert_eq!(mounts[1]["type"], "tmpfs");
        assert_eq!(mounts.as_array().unwrap().len(), 2);
    }

    #[test]
    fn shared_memory_is_the_pods_for_who_shares_its_ipc() {
        let options = json!(["rbind", "rprivate", "rw"]);
        let bind =
            |source| json!({"destination": "/dev/shm", "type": "bind", "source": source, "options": options});
        let mut mounts = vec![bind("/run/sandboxes/pod/shm")];
        adapt(&mut mounts, &mut Files::of(Path::new("/nowhere")), true).unwrap();
        assert_eq!(mounts, [bind("/dev/shm")]);
        let own = json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"});
        let mut mounts = vec![own.clone()];
        adapt(&mut mounts, &mut Files::of(Path::new("/nowhere")), true).unwrap();
        assert_eq!(mounts, [own], "one that was asked for is kept");
    }
}
