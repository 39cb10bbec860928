//! Images made by hand, good and bad.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use theca_image::Digest;
use theca_image::source::architecture;

/// A layer's tar under construction. Headers are written field by field, so that they can be as wrong as a test needs.
#[derive(Default)]
pub struct Layer(Vec<u8>);

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(tar::EntryType::Regular, path, "", data)
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(tar::EntryType::Directory, path, "", b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, path, target, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, path, target, b"")
    }

    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(tar::EntryType::Char, path, "", 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self
    }

    /// PAX records for the entry that comes next.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (1..).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
            body.extend(format!("{length} {key}=").bytes());
            body.extend(value.iter().chain(b"\n"));
        }
        self.entry(tar::EntryType::XHeader, "pax", "", &body)
    }

    pub fn entry(mut self, kind: tar::EntryType, path: &str, link: &str, data: &[u8]) -> Self {
        self.0.extend(header(kind, path, link, data.len() as u64).as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The end marker, and the whole archive.
    pub fn tar(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn header(kind: tar::EntryType, path: &str, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(1_600_000_000);
    let raw = header.as_gnu_mut().unwrap();
    raw.name[..path.len()].copy_from_slice(path.as_bytes());
    raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

/// How a layer is stored.
#[derive(Clone, Copy)]
pub enum Compression {
    Plain,
    Gzip,
    Zstd,
}

pub fn compress(tar: &[u8], how: Compression) -> Vec<u8> {
    match how {
        Compression::Plain => tar.to_vec(),
        Compression::Gzip => {
            let mut out = flate2::read::GzEncoder::new(tar, flate2::Compression::fast());
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut out, &mut bytes).unwrap();
            bytes
        }
        Compression::Zstd => zstd::encode_all(tar, 1).unwrap(),
    }
}

pub fn configuration(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], "User": "7", "WorkingDir": "/w", "StopSignal": "SIGINT"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// An image as blobs, ready to be put in a layout or served by a registry.
pub struct Blobs {
    pub manifest: Digest,
    pub all: Vec<(Digest, Vec<u8>)>,
}

pub fn blobs(layers: &[Vec<u8>], how: Compression) -> Blobs {
    with_configuration(layers, how, &configuration(layers))
}

pub fn with_configuration(layers: &[Vec<u8>], how: Compression, configuration: &Value) -> Blobs {
    let mut all = Vec::new();
    let mut keep = |media_type: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        all.push((digest, bytes));
        descriptor
    };
    let config = keep("application/vnd.oci.image.config.v1+json", configuration.to_string().into_bytes());
    let media_type = match how {
        Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let layers: Vec<Value> = layers.iter().map(|tar| keep(media_type, compress(tar, how))).collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    keep("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes());
    Blobs { manifest: all.last().unwrap().0, all }
}

/// Writes an OCI layout with one image.
pub fn write_layout(folder: &Path, blobs: &Blobs, name: Option<&str>) {
    let folder_of_blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&folder_of_blobs).unwrap();
    for (digest, bytes) in &blobs.all {
        fs::write(folder_of_blobs.join(digest.hex()), bytes).unwrap();
    }
    let (digest, bytes) = blobs.all.last().unwrap();
    let mut entry = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(), "size": bytes.len()});
    if let Some(name) = name {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())
        .unwrap();
}

/// A docker-archive of the old kind: `<id>/layer.tar` and `<id>.json`.
pub fn docker_archive(layers: &[Vec<u8>], tags: &[&str]) -> Vec<u8> {
    let configuration = configuration(layers).to_string();
    let config_name = format!("{}.json", Digest::of(configuration.as_bytes()).hex());
    let names: Vec<String> = (0..layers.len()).map(|i| format!("layer{i}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]).to_string();
    let mut archive = Layer::new().file(&config_name, configuration.as_bytes());
    for (name, tar) in names.iter().zip(layers) {
        archive = archive.file(name, tar);
    }
    archive.file("manifest.json", manifest.as_bytes()).tar()
}

/// A folder as a tar file, the way `tar -C folder -c .` makes it.
pub fn tar_of(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", folder).unwrap();
    builder.into_inner().unwrap()
}
