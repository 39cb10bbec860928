//! Which `.proto` files make up what: the interfaces of each feature, and those of each endpoint that offers reflection.

use crate::enabled;

/// What every program speaks: the task APIs of keeper and agent, and Theca's own.
const ALWAYS: &[&str] = &[
    "containerd/services/tasks/v1/tasks.proto",
    "containerd/task/v2/task.proto",
    "containerd/task/v3/task.proto",
    "containerd/types/introspection.proto",
    "io/containerd/cgroups/v2/metrics.proto",
    "theca/agent/v1/agent.proto",
    "theca/keeper/v1/keeper.proto",
];

/// The endpoint of one container, in the keeper and in the agent.
pub const SHIM: &[&str] = &["containerd/v1/services/shim/shim.proto"];

/// What a keeper exchanges with containerd besides tasks.
const KEEPER: &[&str] = &[
    "containerd/events/task.proto",
    "containerd/services/events/ttrpc/v1/events.proto",
    "containerd/services/streaming/v1/streaming.proto",
    "containerd/types/transfer/streaming.proto",
];

/// What `theca` asks of thecad.
const CLIENT: &[&str] = &[
    "containerd/services/containers/v1/containers.proto",
    "containerd/services/sandbox/v1/sandbox.proto",
    "theca/options/v1/options.proto",
    // Of 2015, and still the one that tells events.
    "types/api.proto",
];

/// What only thecad speaks or reads.
const DAEMON: &[&str] = &["containerd/v1/execution.proto", "runtime/v1/cri.proto"];

/// What thecad's main endpoint serves.
pub const TODAY: &[&str] = &[
    "containerd/services/containers/v1/containers.proto",
    "containerd/services/sandbox/v1/sandbox.proto",
    "containerd/services/tasks/v1/tasks.proto",
    "containerd/v1/execution.proto",
    "types/api.proto",
];

/// Interfaces of which today's form has the same names on the wire, so that they need an endpoint and a module of their own.
pub const OLDER: &[&str] = &[
    "generations/2017/containerd/services/containers/v1/containers.proto",
    "generations/2022/containerd/services/sandbox/v1/sandbox.proto",
];

/// Where the imports of [`OLDER`] are looked for.
pub const OLDER_ROOTS: &[&str] = &["generations/2017", "generations/2022", "."];

/// Packages whose services travel over ttrpc rather than gRPC.
pub const TTRPC_PACKAGES: &[&str] = &[
    "containerd.services.events.ttrpc.v1",
    "containerd.services.streaming.v1",
    "containerd.task.v2",
    "containerd.task.v3",
    "theca.keeper.v1",
];

/// Folders of `.proto` files.
pub const FOLDERS: &[&str] = &["containerd", "generations", "io", "runtime", "theca", "types"];

/// The files that the crate's features ask for.
pub fn spoken() -> Vec<&'static str> {
    [(SHIM, "SHIM"), (KEEPER, "KEEPER"), (CLIENT, "CLIENT"), (DAEMON, "DAEMON")]
        .into_iter()
        .filter(|(_, feature)| enabled(feature))
        .fold(ALWAYS.to_vec(), |files, (more, _)| [&files, more].concat())
}

/// What thecad's endpoint for older clients serves: what the main one does, with the older form where there are two.
pub fn generations() -> Vec<&'static str> {
    let shared = TODAY.iter().copied().filter(|file| OLDER.iter().all(|older| !older.ends_with(file)));
    OLDER.iter().copied().chain(shared).collect()
}
