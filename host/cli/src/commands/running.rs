//! Finding a container that runs.

use anyhow::{anyhow, bail};
use theca_proto::containerd::v1::types::Status;

use crate::container::settle::{Settled, settle};
use crate::container::{Phase, Record, Shelf};
use crate::keeper::Keeper;

/// How a container stands, after bringing its record up to date.
pub async fn look_up(shelf: &Shelf, typed: &str) -> anyhow::Result<Settled> {
    let id = shelf.find_id(typed)?;
    settle(shelf, &id).await?.ok_or_else(|| anyhow!("no such container: {typed}; it has just been removed"))
}

/// A container whose init runs or is paused.
pub async fn find(shelf: &Shelf, typed: &str) -> anyhow::Result<(Record, Keeper, Status)> {
    let settled = look_up(shelf, typed).await?;
    match settled.live {
        Some((keeper, status @ (Status::Running | Status::Paused | Status::Pausing))) => {
            Ok((settled.record, keeper, status))
        }
        _ => {
            bail!("container {typed} {}; `theca start {typed}` starts it", not_running(&settled.record.phase))
        }
    }
}

fn not_running(phase: &Phase) -> String {
    match phase {
        Phase::Exited(exit) => format!("is not running: it exited with status {}", exit.status),
        Phase::Created => "is not running: it was never started".into(),
        Phase::Starting | Phase::Started { .. } => "is not running yet".into(),
    }
}
