//! `theca sandbox ps`: the sandboxes of which thecad's store has a record, those that containers of other clients are in, and
//! how each stands. No interface lists the rest: a sandbox without a record and without a container is known to whoever made
//! it.

use serde_json::{Value, json};
use theca_proto::containerd::services::sandbox::v1::ControllerStatusResponse;
use theca_proto::containerd::types::Sandbox;
use theca_proto::theca::options::v1::SandboxOptions;

use super::{create, ms, standing, unrecorded, word};
use crate::daemon::Daemon;
use crate::output::listing::{self, Format};
use crate::output::{self, Table, size, time};

/// Flags of `sandbox ps`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Only those with a record that matches, in containerd's syntax: 'id==web' or 'labels."team"==a'; several are alternatives
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// table, json or a template such as '{{.ID}}'
    #[arg(long, default_value = "table")]
    format: String,
}

/// A record, its sandbox if thecad runs one, or both.
struct Row {
    id: String,
    record: Option<Sandbox>,
    status: Option<ControllerStatusResponse>,
}

/// Runs the command.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let format: Format = args.format.parse()?;
    let mut rows = Vec::new();
    // What a filter asks for is in records.
    let all = args.filter.is_empty();
    let records = daemon.records(args.filter).await?;
    let others = if all { unrecorded(daemon, &records).await? } else { Vec::new() };
    for record in records {
        let status = if args.quiet { None } else { standing(daemon, &record.sandbox_id).await? };
        rows.push(Row { id: record.sandbox_id.clone(), record: Some(record), status });
    }
    let unrecorded = |status: ControllerStatusResponse| Row {
        id: status.sandbox_id.clone(),
        record: None,
        status: Some(status),
    };
    rows.extend(others.into_iter().map(unrecorded));
    if args.quiet {
        rows.iter().try_for_each(|row| output::line(&row.id))?;
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
    fn state(&self) -> &'static str {
        word(self.status.as_ref())
    }

    fn created_ms(&self) -> u64 {
        let recorded = self.record.as_ref().and_then(|record| record.created_at.as_ref());
        recorded.or(self.status.as_ref().and_then(|status| status.created_at.as_ref())).map_or(0, ms)
    }

    fn options(&self) -> Option<SandboxOptions> {
        self.record.as_ref().and_then(create::options)
    }

    fn pid(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.pid)
    }

    fn entry(&self, now: u64) -> Value {
        let options = self.options();
        json!({
            "ID": self.id,
            "State": self.state(),
            "Pid": self.pid(),
            "CPUs": options.as_ref().map(|options| options.vcpus),
            "MemoryBytes": options.as_ref().map(|options| options.memory_bytes),
            "CreatedAt": time::rfc3339(self.created_ms()),
            "RunningFor": time::ago(self.created_ms(), now),
            "Labels": self.record.as_ref().map(|record| record.labels.clone()).unwrap_or_default(),
        })
    }

    fn cells(&self, now: u64) -> [String; 6] {
        let options = self.options();
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [
            self.id.clone(),
            self.state().into(),
            time::ago(self.created_ms(), now),
            known(options.as_ref().map(|options| options.vcpus.to_string())),
            known(options.as_ref().map(|options| size::human(options.memory_bytes))),
            known(Some(self.pid()).filter(|pid| *pid != 0).map(|pid| pid.to_string())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_sandbox_without_a_record_is_shown_by_what_thecad_says_of_it() {
        let status = ControllerStatusResponse {
            sandbox_id: "web".into(),
            pid: 7,
            state: "SANDBOX_READY".into(),
            created_at: Some(Timestamp { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let row = Row { id: "web".into(), record: None, status: Some(status) };
        assert_eq!(row.cells(120_000), ["web", "ready", "About a minute ago", "-", "-", "7"]);
        let entry = row.entry(120_000);
        assert_eq!(
            (&entry["State"], &entry["CPUs"], &entry["Labels"]),
            (&json!("ready"), &json!(null), &json!({}))
        );
    }
}
