//! Image manifests and indexes (OCI, and Docker's schema 2 with the same fields), parsed as far as they are used.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::digest::Digest;

use super::SourceError;

/// Linux' name of the machine as images spell it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Names a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    digest: String,
    /// Length in bytes.
    pub size: u64,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl Descriptor {
    /// The digest, which is only checked where it is used: indexes may name what this store cannot verify.
    pub fn digest(&self) -> Result<Digest, SourceError> {
        self.digest
            .parse()
            .map_err(|source| SourceError::Digest { what: "the image's manifest".into(), source })
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether an image for this machine may be behind it; without a platform only its configuration tells.
    pub fn may_run_here(&self) -> bool {
        self.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture())
    }

    fn platform(&self) -> Option<String> {
        self.platform.as_ref().map(|p| format!("{}/{}", p.os, p.architecture))
    }
}

/// What a manifest's digest may name.
#[derive(Clone, Debug)]
pub enum Document {
    /// Several images of which one is chosen by platform, or further indexes.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest {
        /// The configuration.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

impl Document {
    /// Parses a manifest or an index. One that could be read as both is refused: two readers of one digest must not
    /// see two images.
    pub fn parse(json: &[u8], what: &str) -> Result<Self, SourceError> {
        let raw: Raw =
            serde_json::from_slice(json).map_err(|source| SourceError::Json { what: what.into(), source })?;
        let bad = |problem: &str| SourceError::Document { what: what.into(), problem: problem.into() };
        if raw.schema_version != Some(2) {
            return Err(bad("is not of schema version 2, and no other is supported"));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(manifests), None, None) => Ok(Self::Index(manifests)),
            (None, Some(config), Some(layers)) => Self::manifest(config, layers, bad),
            _ => Err(bad("is neither an index nor an image's manifest")),
        }
    }

    fn manifest(
        config: Descriptor,
        layers: Vec<Descriptor>,
        bad: impl Fn(&str) -> SourceError,
    ) -> Result<Self, SourceError> {
        const CONFIGS: [&str; 3] = [
            "",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        ];
        if !CONFIGS.contains(&config.media_type.as_str()) {
            return Err(bad(&format!("is no container image but {:?}", config.media_type)));
        }
        if let Some(layer) = layers.iter().find(|layer| layer.media_type.contains("encrypted")) {
            return Err(bad(&format!(
                "has an encrypted layer ({}), which is not supported",
                layer.media_type
            )));
        }
        if let Some(layer) = layers.iter().find(|layer| layer.media_type.contains("foreign")) {
            return Err(bad(&format!("has a foreign layer ({}), which is not supported", layer.media_type)));
        }
        Ok(Self::Manifest { config, layers })
    }

    /// The descriptor of an index to go on with: the first that may run on this machine.
    pub fn choose(descriptors: &[Descriptor]) -> Result<&Descriptor, SourceError> {
        descriptors.iter().find(|descriptor| descriptor.may_run_here()).ok_or_else(|| {
            let platforms: Vec<String> = descriptors.iter().filter_map(Descriptor::platform).collect();
            let found = if platforms.is_empty() { "nothing".into() } else { platforms.join(", ") };
            SourceError::Platform { found }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(extra: &str) -> String {
        format!(r#"{{"mediaType":"","digest":"{DIGEST}","size":1{extra}}}"#)
    }

    fn parse(json: &str) -> Result<Document, SourceError> {
        Document::parse(json.as_bytes(), "the manifest")
    }

    #[test]
    fn the_image_for_this_machine_is_chosen() {
        let entries = [
            descriptor(r#","platform":{"os":"linux","architecture":"s390x"}"#),
            descriptor(r#","platform":{"os":"unknown","architecture":"unknown"}"#),
            descriptor(&format!(
                r#","platform":{{"os":"linux","architecture":"{}"}},"annotations":{{"k":"v"}}"#,
                architecture()
            )),
        ];
        let index =
            |entries: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Ok(Document::Index(all)) = parse(&index(&entries)) else { panic!("no index") };
        assert_eq!(Document::choose(&all).unwrap().annotation("k"), Some("v"));
        let error = Document::choose(&all[..1]).unwrap_err().to_string();
        assert!(error.starts_with("the image is for linux/s390x; this machine runs linux/"), "{error}");
    }

    #[test]
    fn a_document_that_is_two_things_is_refused() {
        let one = descriptor("");
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{one},"layers":[]}}"#);
        assert!(parse(&both).is_err());
        assert!(parse(&format!(r#"{{"schemaVersion":1,"config":{one},"layers":[]}}"#)).is_err());
        assert!(parse(r#"{"schemaVersion":2}"#).is_err());
        assert!(parse("[1").is_err());
    }

    #[test]
    fn what_is_no_container_image_is_refused_by_name() {
        let chart = format!(
            r#"{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{DIGEST}","size":1}}"#
        );
        let error = parse(&format!(r#"{{"schemaVersion":2,"config":{chart},"layers":[]}}"#)).unwrap_err();
        assert!(error.to_string().contains("helm"), "{error}");
        let secret = format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip+encrypted","digest":"{DIGEST}","size":1}}"#
        );
        let error =
            parse(&format!(r#"{{"schemaVersion":2,"config":{},"layers":[{secret}]}}"#, descriptor("")))
                .unwrap_err();
        assert!(error.to_string().contains("encrypted"), "{error}");
    }
}
