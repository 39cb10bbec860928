//! A real image to run: a minimal Debian root as an OCI image layout, made from Debian's packages.
//!
//! The layout is written here, by the OCI image specification 1.1 (one gzip layer, config, manifest, index), so that
//! neither the demo nor the test host's first image depends on another tool being right.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::apt::Suite;
use crate::cache::{self, Key};
use crate::{command, progress};

const SUITE: &str = "trixie";
/// The name that the image carries in its index.
pub const NAME: &str = "debian:13";

/// What makes a container image of a Debian root: no documentation, no package lists, no machine's identity.
const TRIM: [&str; 3] = [
    "rm -rf \"$1\"/usr/share/doc/* \"$1\"/usr/share/man/* \"$1\"/usr/share/locale/* \"$1\"/usr/share/info/*",
    "rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*.bin \"$1\"/var/log/*.log \"$1\"/var/log/apt",
    "rm -f \"$1\"/etc/hostname \"$1\"/etc/resolv.conf; : > \"$1\"/etc/machine-id",
];

/// The folder that holds the image as `layout/` (OCI image layout) and as `root.tar` (the bare root file system).
pub fn debian() -> Result<PathBuf> {
    let key = Key::new(1).with(SUITE).with(NAME).with(TRIM.join("\n"));
    cache::entry("debian-image", key, |folder| {
        let root = folder.join("root.tar");
        Suite::new(SUITE)?.bootstrap(&root, &[], &TRIM.map(str::to_owned))?;
        let user = format!("{}:{}", nix::unistd::getuid(), nix::unistd::getgid());
        command::quietly(command::as_root("chown").arg(user).arg(&root))?;
        progress::step("packing it as an OCI image", || write_layout(&root, &folder.join("layout")))
    })
}

/// Writes an image layout of one layer, the tar archive `root`.
fn write_layout(root: &Path, layout: &Path) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let (layer, diff_id) =
        compress(root, &blobs).with_context(|| format!("failed to compress {}", root.display()))?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/bash"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": format!("mmdebstrap {SUITE}") }],
    });
    let config = store(&blobs, "application/vnd.oci.image.config.v1+json", &config)?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer] });
    let mut manifest = store(&blobs, manifest_type, &manifest)?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": NAME });
    manifest["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": index_type, "manifests": [manifest] });
    std::fs::write(layout.join("index.json"), index.to_string())?;
    std::fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    Ok(())
}

/// Compresses the tar into a blob; gives the layer's descriptor and the digest of the tar itself.
fn compress(root: &Path, blobs: &Path) -> Result<(Value, String)> {
    let unnamed = blobs.join("layer");
    let blob = Hashing::new(File::create(&unnamed)?);
    let mut gzip = GzBuilder::new().write(blob, Compression::fast());
    let mut tar = BufReader::with_capacity(1 << 20, File::open(root)?);
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let count = tar.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        gzip.write_all(&chunk[..count])?;
    }
    let blob = gzip.finish()?;
    let descriptor = blob.descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
    std::fs::rename(unnamed, blobs.join(hex::encode(blob.hash.finalize())))?;
    Ok((descriptor, format!("sha256:{}", hex::encode(hash.finalize()))))
}

/// Stores a JSON document as a blob and gives its descriptor.
fn store(blobs: &Path, media_type: &str, document: &Value) -> Result<Value> {
    let text = document.to_string();
    let digest = hex::encode(Sha256::digest(&text));
    std::fs::write(blobs.join(&digest), &text)?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() }))
}

/// A file that knows the digest and size of what was written to it.
struct Hashing {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Hashing {
    fn new(file: File) -> Self {
        Self { file, hash: Sha256::new(), size: 0 }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        let digest = format!("sha256:{}", hex::encode(self.hash.clone().finalize()));
        json!({ "mediaType": media_type, "digest": digest, "size": self.size })
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_of_a_layout_points_at_what_it_describes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.tar");
        std::fs::write(&root, vec![0; 10_240]).unwrap();
        let layout = folder.path().join("layout");
        write_layout(&root, &layout).unwrap();

        let index: Value =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&checked(&layout, &index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&checked(&layout, &manifest["config"])).unwrap();
        let layer = checked(&layout, &manifest["layers"][0]);
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut tar).unwrap();
        assert_eq!(tar, vec![0; 10_240]);
        let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&tar)));
        assert_eq!(config["rootfs"]["diff_ids"][0], diff_id);
    }

    /// The blob a descriptor points at, after its size and digest were compared.
    fn checked(layout: &Path, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = std::fs::read(layout.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&blob)), digest);
        assert_eq!(blob.len() as u64, descriptor["size"]);
        blob
    }
}
