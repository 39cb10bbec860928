//! `linux.namespaces` of a specification: a path names a namespace of the host.
//!
//! For network, IPC and UTS it means "share the sandbox's", and the guest is the sandbox: the container then stays in the
//! guest's own. The other kinds cannot be shared with anyone outside.

use serde_json::Value;

use super::BundleError;

/// Takes the paths out.
pub fn adapt(namespaces: &mut Vec<Value>) -> Result<(), BundleError> {
    let mut refused = None;
    namespaces.retain(|namespace| {
        let field = |name| namespace.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, path) = (field("type"), field("path"));
        if path.is_empty() {
            return true;
        }
        if !matches!(kind, "network" | "ipc" | "uts") {
            refused.get_or_insert(format!(
                "joining the host's {kind} namespace {path} is not supported in a sandbox"
            ));
        }
        false
    });
    refused.map_or(Ok(()), |why| Err(BundleError::Unsupported(why)))
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
        adapt(&mut namespaces).unwrap();
        assert_eq!(namespaces, [json!({"type": "pid"}), json!({"type": "mount"})]);
    }

    #[test]
    fn the_hosts_processes_cannot_be_joined() {
        let error = adapt(&mut vec![json!({"type": "pid", "path": "/proc/1/ns/pid"})]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "joining the host's pid namespace /proc/1/ns/pid is not supported in a sandbox"
        );
    }
}
