//! protobuf's Any, and what is required to be in one.

use prost_types::Any;
use theca_controller::bundle::is_oci;
use theca_controller::node::Error;
use theca_controller::node::values::Payload;

/// From the wire.
pub fn payload(any: Any) -> Payload {
    Payload { type_url: any.type_url, value: any.value }
}

/// To the wire.
pub fn any(payload: Payload) -> Any {
    Any { type_url: payload.type_url, value: payload.value }
}

/// The OCI `Process` that an Exec of 2017 brings, JSON.
pub fn oci_process(spec: Option<Any>) -> Result<Vec<u8>, Error> {
    let any = spec.ok_or_else(|| Error::Invalid("the process to add has no specification".into()))?;
    let url = any.type_url.as_str();
    if !is_oci(url, "Process") {
        return Err(Error::Invalid(format!(
            "a process specification of type {url:?} is not known here: use {}",
            theca_proto::type_url::OCI_PROCESS
        )));
    }
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&any.value)
        .map_err(|error| Error::Invalid(format!("the process specification is no JSON object: {error}")))?;
    Ok(any.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(type_url: &str, value: &str) -> Option<Any> {
        Some(Any { type_url: type_url.into(), value: value.into() })
    }

    #[test]
    fn a_process_is_known_by_each_of_the_names_that_its_type_had() {
        for url in ["", "1.0.0-rc5", theca_proto::type_url::OCI_PROCESS] {
            assert_eq!(oci_process(spec(url, "{}")).unwrap(), b"{}", "{url:?}");
        }
    }

    #[test]
    fn what_is_no_process_is_refused_with_what_it_should_be() {
        let foreign = oci_process(spec("google.protobuf.Empty", "{}")).unwrap_err().to_string();
        assert!(foreign.contains("\"google.protobuf.Empty\"") && foreign.contains("use types."), "{foreign}");
        assert!(oci_process(spec("types.containerd.io/opencontainers/runtime-spec/1/Spec", "{}")).is_err());
        assert!(oci_process(spec("", "[]")).unwrap_err().to_string().contains("no JSON object"));
        assert!(oci_process(None).unwrap_err().to_string().contains("no specification"));
    }
}
