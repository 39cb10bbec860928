//! A bound on what a registry makes us hold in memory.
//!
//! oci-client reads manifests, tokens and the bodies of errors whole, and offers no limit. So while it waits for one of
//! these, the process's own memory is watched: an answer that makes it grow by [`GROWTH`] is broken off by dropping the
//! request, as is one that drips for longer than [`PATIENCE`]. Layers go to files in pieces and need no guard.

use std::fs;
use std::future::Future;
use std::time::Duration;

use super::RegistryError;

/// Far more than any document, and than the index of an image that is unpacked beside it; little enough for any machine that runs VMs.
const GROWTH: u64 = 512 << 20;
/// How long one answer may take in all.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks: some tens of MiB at the speed of a fast network.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits for an answer of `registry`, but not for one that floods.
pub(super) async fn guarded<T>(registry: &str, answer: impl Future<Output = T>) -> Result<T, RegistryError> {
    tokio::select! {
        biased;
        () = flood() => Err(RegistryError::Flood { registry: registry.to_owned(), limit: GROWTH }),
        answer = tokio::time::timeout(PATIENCE, answer) => {
            answer.map_err(|_| RegistryError::Slow { registry: registry.to_owned(), limit: PATIENCE })
        }
    }
}

/// Ends when this process has grown too much; without a /proc never.
async fn flood() {
    let Some(before) = resident() else { return std::future::pending().await };
    let mut interval = tokio::time::interval(INTERVAL);
    while resident().is_none_or(|now| now.saturating_sub(before) < GROWTH) {
        interval.tick().await;
    }
}

/// Bytes of memory that this process has: the second number of `statm`, in pages.
fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
