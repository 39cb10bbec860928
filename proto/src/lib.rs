//! Every wire contract: containerd's interfaces and Theca's own, as generated from the `.proto` files of this folder.
//!
//! Modules follow the protobuf packages: `containerd.task.v3` is [`containerd::task::v3`].

pub mod ttrpc_glue;

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::{containerd, io, theca};

/// Ports of virtio-vsock that keeper and agent agree on.
pub mod ports {
    /// The agent's gRPC services; the host dials.
    pub const AGENT: u32 = 1024;
    /// The host's port that the agent dials when it is ready.
    pub const READY: u32 = 1025;
    /// The agent's streams; the host dials and names the stream in a first line.
    pub const STREAM: u32 = 1026;
}

/// Type URLs of the `Any` values that carry OCI runtime-spec JSON.
pub mod type_url {
    /// Counters of a cgroup, in the answer to Stats.
    pub const CGROUP_METRICS: &str = "io.containerd.cgroups.v2.Metrics";
    /// An OCI `Process`, in Exec.
    pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
    /// An OCI `Spec`.
    pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
    /// An OCI `LinuxResources`, in Update.
    pub const OCI_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    /// `theca.keeper.v1.SandboxOptions`.
    pub const SANDBOX_OPTIONS: &str = "theca.keeper.v1.SandboxOptions";
    /// `theca.keeper.v1.TaskOptions`.
    pub const TASK_OPTIONS: &str = "theca.keeper.v1.TaskOptions";
}
