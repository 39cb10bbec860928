//! What a part of an OCI specification is called when it travels as protobuf's Any.

/// Whether `url` names the part `name`, such as `Process` or `Spec`, as JSON.
///
/// That was named in several ways over the years: by a path that ends in `opencontainers/runtime-spec/…/Process`, by the
/// specification's version alone, or not at all.
pub fn is_oci(url: &str, name: &str) -> bool {
    let version = url.bytes().next().is_some_and(|first| first.is_ascii_digit());
    let path = url.contains("opencontainers/runtime-spec/") && url.rsplit('/').next() == Some(name);
    url.is_empty() || version || path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_that_was_used_is_known_and_no_other() {
        for url in ["", "1.0.0-rc5", "types.containerd.io/opencontainers/runtime-spec/1/Spec"] {
            assert!(is_oci(url, "Spec"), "{url:?}");
        }
        for url in
            ["types.containerd.io/opencontainers/runtime-spec/1/Process", "google.protobuf.Empty", "x/Spec"]
        {
            assert!(!is_oci(url, "Spec"), "{url:?}");
        }
    }
}
