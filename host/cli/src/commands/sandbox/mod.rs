//! `theca sandbox …`: sandboxes that thecad runs, for containers that `run` or other clients of it create in them.

mod create;
mod events;
mod inspect;
mod ps;
mod rm;
mod run;
mod start;
mod stats;
mod stop;

use std::path::PathBuf;

use clap::ValueHint;
use prost_types::Timestamp;
use theca_proto::containerd::services::sandbox::v1::ControllerStatusResponse;
use theca_proto::containerd::types::Sandbox;

use crate::container::{NAMESPACE, Roots};
use crate::daemon::{Daemon, DaemonError};

/// What thecad calls a sandbox that takes containers.
const READY: &str = "SANDBOX_READY";

/// Flags of `sandbox`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where sandboxes are asked for.
#[derive(clap::Args, Debug)]
struct Place {
    /// thecad's socket [default: /run/theca/thecad.sock, or thecad.sock in THECA_STATE]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    address: Option<PathBuf>,
    /// containerd's namespace; that of Kubernetes is k8s.io
    #[arg(long, global = true, value_name = "NAME", default_value = NAMESPACE)]
    namespace: String,
}

/// What to do with sandboxes.
#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Make a sandbox without running it
    Create(create::Args),
    /// Boot sandboxes: from then on they take containers
    Start(start::Args),
    /// Run a container of an image in a sandbox
    Run(run::Args),
    /// End sandboxes: their containers are asked, then killed
    Stop(stop::Args),
    /// Remove sandboxes
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// List sandboxes
    #[command(visible_aliases = ["ls", "list"])]
    Ps(ps::Args),
    /// Tell all about sandboxes, as JSON
    Inspect(inspect::Args),
    /// Show what sandboxes use
    Stats(stats::Args),
    /// Show what happens to the containers in sandboxes
    Events(events::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let daemon = args.place.connect().await?;
    match args.command {
        Command::Create(args) => create::run(args, &daemon).await,
        Command::Start(args) => start::run(args, &daemon).await,
        Command::Run(args) => run::run(args, &daemon).await,
        Command::Stop(args) => stop::run(args, &daemon).await,
        Command::Rm(args) => rm::run(args, &daemon).await,
        Command::Ps(args) => ps::run(args, &daemon).await,
        Command::Inspect(args) => inspect::run(args, &daemon).await,
        Command::Stats(args) => stats::run(args, &daemon).await,
        Command::Events(args) => events::run(args, &daemon).await,
    }
}

impl Place {
    async fn connect(&self) -> anyhow::Result<Daemon> {
        let default = || Roots::from_env().state().join("thecad.sock");
        let socket = self.address.clone().unwrap_or_else(default);
        Daemon::connect(&socket, &self.namespace).await
    }
}

/// The one word for how a sandbox stands.
fn state(status: &ControllerStatusResponse) -> &'static str {
    match (status.state.as_str(), &status.exited_at) {
        (READY, _) => "ready",
        (_, Some(_)) => "stopped",
        (_, None) => "created",
    }
}

/// The same of what has a record: without a sandbox, that is what a restart of the machine has left.
fn word(status: Option<&ControllerStatusResponse>) -> &'static str {
    status.map_or("gone", state)
}

/// How the sandbox stands; `None` if thecad runs none of that id, whatever its records say.
async fn standing(daemon: &Daemon, id: &str) -> Result<Option<ControllerStatusResponse>, DaemonError> {
    match daemon.status(id, false).await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sandboxes that thecad runs and of which its store has no record, by what containers tell: those that are some container's
/// alone, and those that another client has made for containers.
async fn unrecorded(
    daemon: &Daemon,
    recorded: &[Sandbox],
) -> Result<Vec<ControllerStatusResponse>, DaemonError> {
    let mut ids = daemon.ids_by_containers().await?;
    for record in recorded {
        ids.remove(&record.sandbox_id);
    }
    let mut found = Vec::new();
    for id in ids {
        found.extend(standing(daemon, &id).await?);
    }
    Ok(found)
}

/// A protobuf timestamp in milliseconds since 1970.
fn ms(at: &Timestamp) -> u64 {
    u64::try_from(at.seconds.saturating_mul(1000) + i64::from(at.nanos / 1_000_000)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_that_is_not_ready_was_never_started_or_has_ended() {
        let status = |state: &str, exited_at| ControllerStatusResponse {
            state: state.into(),
            exited_at,
            ..Default::default()
        };
        let exited = Timestamp { seconds: 1, nanos: 500_000_000 };
        assert_eq!(ms(&exited), 1500);
        assert_eq!(state(&status("SANDBOX_READY", None)), "ready");
        assert_eq!(state(&status("SANDBOX_NOTREADY", None)), "created");
        assert_eq!(state(&status("SANDBOX_NOTREADY", Some(exited))), "stopped");
    }
}
