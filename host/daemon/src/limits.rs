//! Descriptors: every client and every sandbox takes some, and a shell gives a process 1024.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// As many open descriptors as the administrator allows. Without, thecad runs, for fewer clients.
pub fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "the limit of open descriptors stays as it is");
    }
}
