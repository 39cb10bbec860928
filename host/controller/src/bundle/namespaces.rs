//! `linux.namespaces` of a specification: a path names a namespace of the host.
//!
//! For network, IPC and UTS it means "share the sandbox's", and the guest is the sandbox: the container then stays in the
//! guest's own. A pid namespace is shared likewise where the path is that of the process that stands for the sandbox, and
//! for each of its containers, on the host: there is no other pid that a pod could know. The other kinds, and other
//! processes, cannot be shared.

use serde_json::Value;

use super::BundleError;

/// Takes the paths out. `sandbox` is the pid that stands for the sandbox, if it was told to anybody yet.
pub fn adapt(namespaces: &mut Vec<Value>, sandbox: Option<u32>) -> Result<(), BundleError> {
    let of_sandbox = sandbox.map(|pid| format!("/proc/{pid}/ns/pid"));
    let mut refused = None;
    namespaces.retain(|namespace| {
        let field = |name| namespace.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, path) = (field("type"), field("path"));
        if path.is_empty() {
            return true;
        }
        let shared = match kind {
            "network" | "ipc" | "uts" => true,
            "pid" => of_sandbox.as_deref() == Some(path),
            _ => false,
        };
        if !shared {
            let advice = match &of_sandbox {
                Some(own) if kind == "pid" => format!(": the sandbox's own is {own}"),
                _ => String::new(),
            };
            refused.get_or_insert(format!(
                "joining the host's {kind} namespace {path} is not supported in a sandbox{advice}"
            ));
        }
        false
    });
    refused.map_or(Ok(()), |why| Err(BundleError::Unsupported(why)))
}

/// Whether a container with these namespaces shares the sandbox's IPC: it has none of its own.
pub fn shares_ipc(linux: Option<&Value>) -> bool {
    let namespaces = linux.and_then(|linux| linux.get("namespaces")).and_then(Value::as_array);
    let field =
        |namespace: &Value, name| namespace.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = |namespace: &Value| field(namespace, "type") == "ipc" && field(namespace, "path").is_empty();
    !namespaces.into_iter().flatten().any(own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_sandbox_namespaces_are_the_guests_own() {
        let mut namespaces = vec![
            json!({"type": "pid"}),
            json!({"type": "network", "path": "/proc/1/ns/net"}),
            json!({"type": "uts", "path": "/proc/1/ns/uts"}),
            json!({"type": "mount"}),
        ];
        adapt(&mut namespaces, None).unwrap();
        assert_eq!(namespaces, [json!({"type": "pid"}), json!({"type": "mount"})]);
    }

    #[test]
    fn ipc_is_shared_by_who_names_the_pods_or_none() {
        let with = |namespaces: Value| shares_ipc(Some(&json!({ "namespaces": namespaces })));
        assert!(shares_ipc(None) && with(json!([])) && with(json!([{"type": "pid"}])));
        assert!(with(json!([{"type": "ipc", "path": "/proc/1/ns/ipc"}])));
        assert!(!with(json!([{"type": "pid"}, {"type": "ipc"}])));
    }

    #[test]
    fn a_pods_pid_namespace_is_the_guests() {
        let mut namespaces =
            vec![json!({"type": "pid", "path": "/proc/812/ns/pid"}), json!({"type": "mount"})];
        adapt(&mut namespaces, Some(812)).unwrap();
        assert_eq!(namespaces, [json!({"type": "mount"})]);
    }

    #[test]
    fn the_hosts_processes_cannot_be_joined() {
        let refusal = |kind: &str, path: &str, sandbox| {
            adapt(&mut vec![json!({"type": kind, "path": path})], sandbox).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("pid", "/proc/1/ns/pid", None),
            "joining the host's pid namespace /proc/1/ns/pid is not supported in a sandbox"
        );
        assert_eq!(
            refusal("pid", "/proc/1/ns/pid", Some(812)),
            "joining the host's pid namespace /proc/1/ns/pid is not supported in a sandbox: the sandbox's own is \
             /proc/812/ns/pid"
        );
        for (kind, path) in [("pid", "/proc/812/ns/net"), ("mount", "/proc/812/ns/mnt")] {
            assert!(refusal(kind, path, Some(812)).contains(path));
        }
    }
}
