//! `theca sandbox ps`: the sandboxes of which thecad's store has a record, and how each stands.

use serde_json::{Value, json};
use theca_proto::containerd::services::sandbox::v1::ControllerStatusResponse;
use theca_proto::containerd::types::Sandbox;

use super::{create, ms, standing, state};
use crate::daemon::Daemon;
use crate::output::listing::{self, Format};
use crate::output::{self, Table, size, time};

/// Flags of `sandbox ps`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only those that match, in containerd's syntax: 'id==web' or 'labels."team"==a'; several are alternatives
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json or a template such as '{{.ID}}'
    #[arg(long, default_value = "table")]
    format: String,
}

/// A record, and its sandbox if thecad runs one.
struct Row {
    record: Sandbox,
    status: Option<ControllerStatusResponse>,
}

/// Runs the command.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let format: Format = args.format.parse()?;
    let mut rows = Vec::new();
    for record in daemon.records(args.filter).await? {
        let status = if args.quiet { None } else { standing(daemon, &record.sandbox_id).await? };
        rows.push(Row { record, status });
    }
    if args.quiet {
        rows.iter().try_for_each(|row| output::line(&row.record.sandbox_id))?;
        return Ok(0);
    }
    let now = time::now_ms();
    let entries: Vec<Value> = rows.iter().map(|row| row.entry(now)).collect();
    listing::print(&format, &entries, || {
        let mut table = Table::new(&["SANDBOX ID", "STATE", "CREATED", "CPUS", "MEMORY", "PID"]);
        for row in &rows {
            table.row(row.cells(now));
        }
        table
    })?;
    Ok(0)
}

impl Row {
    /// A record without a sandbox is left when the machine was started anew.
    fn state(&self) -> &'static str {
        self.status.as_ref().map_or("gone", state)
    }

    fn created_ms(&self) -> u64 {
        self.record.created_at.as_ref().map_or(0, ms)
    }

    fn pid(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.pid)
    }

    fn entry(&self, now: u64) -> Value {
        let options = create::options(&self.record);
        json!({
            "ID": self.record.sandbox_id,
            "State": self.state(),
            "Pid": self.pid(),
            "CPUs": options.as_ref().map(|options| options.vcpus),
            "MemoryBytes": options.as_ref().map(|options| options.memory_bytes),
            "CreatedAt": time::rfc3339(self.created_ms()),
            "RunningFor": time::ago(self.created_ms(), now),
            "Labels": self.record.labels,
        })
    }

    fn cells(&self, now: u64) -> [String; 6] {
        let options = create::options(&self.record);
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [
            self.record.sandbox_id.clone(),
            self.state().into(),
            time::ago(self.created_ms(), now),
            known(options.as_ref().map(|options| options.vcpus.to_string())),
            known(options.as_ref().map(|options| size::human(options.memory_bytes))),
            known(Some(self.pid()).filter(|pid| *pid != 0).map(|pid| pid.to_string())),
        ]
    }
}
