//! Plain values that every part of the node shares: what the wires call Any, Mount and so on, without a wire.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A value of a type that only its sender and its reader know: protobuf's Any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Its type's URL.
    pub type_url: String,
    /// Its bytes.
    #[serde(with = "base64_text")]
    pub value: Vec<u8>,
}

/// A mount of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The file system, `erofs`, `ext4` or `bind`.
    pub kind: String,
    /// An image or a folder on the host.
    pub source: String,
    /// A folder in the root; empty for the root itself.
    pub target: String,
    /// As for mount(8).
    pub options: Vec<String>,
}

/// Input and output of a process: FIFO paths, `file://` paths for output only, `stream://` names; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Io {
    /// Whether it has a terminal; its output is then all in `stdout`.
    pub terminal: bool,
    /// Where input comes from.
    pub stdin: String,
    /// Where output goes.
    pub stdout: String,
    /// Where errors go.
    pub stderr: String,
}

/// How a process or a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// Its own status, or 128+N after signal N; 137 of a process whose sandbox went away under it, 255 of such a sandbox.
    pub status: u32,
    /// When, on the host's clock.
    pub at: SystemTime,
}

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// What a process was asked to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// NAME=value.
    pub env: Vec<String>,
    /// Its folder in the container.
    pub cwd: String,
    /// Whom it runs as.
    pub user: User,
}

/// The machine that the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub cpus: u32,
    /// RAM.
    pub memory_mib: u64,
}

/// What a sandbox can run, in the OCI image specification's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// Empty.
    pub variant: String,
}

/// Where a container's specification and root come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder with `config.json`, by absolute path.
    Bundle(PathBuf),
    /// The specification of the container's record in the store; the node makes the bundle.
    Store,
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
