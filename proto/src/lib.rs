//! Every wire contract: containerd's interfaces and Theca's own, as generated from the `.proto` files of this folder.
//!
//! Modules follow the protobuf packages: `containerd.task.v3` is [`containerd::task::v3`]. What a program speaks beyond the
//! task APIs and Theca's own is behind a feature, so that no program carries messages it does not use.
//!
//! Five generations of containerd's API are here: `types.API` (2015), `containerd.v1.ExecutionService` (2016–17),
//! `containerd.v1.services.shim.Shim` and `containerd.services.tasks.v1.Tasks` (2017), and
//! `containerd.services.sandbox.v1`, which has two forms. See [`generations`] for why there are two modules of it.

#[cfg(feature = "shim")]
pub mod descriptors;
#[cfg(feature = "grpc-client")]
pub mod grpc_channel;
pub mod ttrpc_glue;
pub mod ttrpc_stream;
#[cfg(feature = "unix-server")]
pub mod unix_grpc;

#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

#[cfg(feature = "daemon")]
pub use generated::runtime;
#[cfg(feature = "client")]
pub use generated::types;
pub use generated::{containerd, io, theca};

/// Interfaces in the form that an older containerd published under the names that today's form has too.
///
/// A client finds a method by the names of package, service and method alone. `containerd.services.sandbox.v1.Controller`
/// of 2022 has a `Status` whose answer gives fields 4, 5 and 6 another meaning and type than today's, and
/// `containerd.services.containers.v1.Container` of 2017 another one to fields 6, 7 and 8; so no server can answer both
/// kinds of client at one address. thecad therefore serves two endpoints: today's forms at the main one, these at another.
/// What has one form only is served at both, and both show the same sandboxes and containers.
///
/// `containerd.types` is shared: of its messages here, only `Sandbox` has grown, by a field that older clients skip.
#[cfg(feature = "daemon")]
pub mod generations {
    #[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/generations/packages.rs"));
    }

    pub use generated::containerd;
}

/// Ports of virtio-vsock that keeper and agent agree on.
pub mod ports {
    /// The agent's gRPC services; the host dials.
    pub const AGENT: u32 = 1024;
    /// The host's port that the agent dials when it is ready.
    pub const READY: u32 = 1025;
    /// The agent's streams; the host dials and names the stream in a first line.
    pub const STREAM: u32 = 1026;
}

/// The gRPC header that names the container whose Shim is meant, where one port serves those of all: in the guest.
#[cfg(feature = "shim")]
pub const SHIM_CONTAINER: &str = "theca-container";

/// Headers of the agent's gRPC statuses: what a failed call is to be blamed on.
pub mod agent_headers {
    /// On a failed Create, Start or Exec: the error number for which the container's program cannot be executed. ENOENT (2)
    /// comes as NOT_FOUND and becomes exit code 127, any other as PERMISSION_DENIED and becomes 126.
    pub const EXEC_ERRNO: &str = "theca-exec-errno";
    /// On a failed Prepare: the slot of an EROFS disk that cannot be mounted.
    pub const DAMAGED_IMAGE: &str = "theca-damaged-image";
}

/// Type URLs of the `Any` values that these interfaces carry.
pub mod type_url {
    /// Counters of a cgroup, in the answer to Stats.
    pub const CGROUP_METRICS: &str = "io.containerd.cgroups.v2.Metrics";
    /// An OCI `Process`, in Exec.
    pub const OCI_PROCESS: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";
    /// An OCI `Spec`.
    pub const OCI_SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
    /// An OCI `LinuxResources`, in Update.
    pub const OCI_RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    /// `runtime.v1.PodSandboxConfig`: what containerd's CRI gives a sandbox controller as options.
    pub const POD_SANDBOX_CONFIG: &str = "runtime.v1.PodSandboxConfig";
    /// `theca.options.v1.SandboxOptions`: what any client may give a sandbox controller as options.
    pub const CLIENT_SANDBOX_OPTIONS: &str = "theca.options.v1.SandboxOptions";
    /// `theca.keeper.v1.Failure`: a detail of a keeper's status.
    pub const FAILURE: &str = "theca.keeper.v1.Failure";
    /// The first message of a `containerd.services.streaming.v1` stream.
    pub const STREAM_INIT: &str = "containerd.services.streaming.v1.StreamInit";
    /// Bytes on such a stream.
    pub const STREAM_DATA: &str = "containerd.types.transfer.Data";
    /// Room for more bytes on such a stream.
    pub const STREAM_WINDOW_UPDATE: &str = "containerd.types.transfer.WindowUpdate";
    /// `theca.keeper.v1.SandboxOptions`.
    pub const SANDBOX_OPTIONS: &str = "theca.keeper.v1.SandboxOptions";
    /// `theca.keeper.v1.TaskOptions`.
    pub const TASK_OPTIONS: &str = "theca.keeper.v1.TaskOptions";
    /// `theca.keeper.v1.ExecOptions`: an OCI `Process` with options of ours, in Exec.
    pub const EXEC_OPTIONS: &str = "theca.keeper.v1.ExecOptions";
}
