//! `theca sandbox stats`: what sandboxes use, second by second or once.

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use anyhow::Context;
use prost::Message;
use serde_json::{Value, json};
use theca_proto::containerd::types::Metric;
use theca_proto::io::containerd::cgroups::v2::Metrics;
use tokio::time::sleep;

use super::{ms, standing, state, unrecorded};
use crate::daemon::Daemon;
use crate::output::listing::{self, Format};
use crate::output::{Table, size};

/// Between two looks: processor use is the difference.
const INTERVAL: Duration = Duration::from_secs(1);
/// Cursor to the top left, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Flags of `sandbox stats`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show one second, and stop there
    #[arg(long)]
    no_stream: bool,
    /// table, json or a template such as '{{.ID}} {{.CPUPerc}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// The sandboxes' ids [default: all that run, but for those that have neither a record nor a container]
    #[arg(value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Counters of a sandbox at a moment.
struct Sample {
    id: String,
    at_ms: u64,
    counters: Metrics,
}

/// What a sandbox used between two moments.
struct Use {
    id: String,
    /// 100 is one processor.
    cpu_percent: f64,
    memory: u64,
    memory_limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

/// Runs the command, without an end unless one second is enough.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let format: Format = args.format.parse()?;
    let live = format == Format::Table && !args.no_stream && stdout().is_terminal();
    let mut before = look(daemon, &args.sandboxes).await?;
    loop {
        sleep(INTERVAL).await;
        let now = look(daemon, &args.sandboxes).await?;
        let uses: Vec<Use> = now.iter().map(|sample| sample.since(&before)).collect();
        if live {
            print!("{CLEAR}");
        }
        print(&format, &uses)?;
        if args.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

/// Samples of those that are named; of all that run if none is, without those that end meanwhile.
async fn look(daemon: &Daemon, named: &[String]) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for id in named {
        samples.push(Sample::of(id, daemon.metrics(id).await?)?);
    }
    if named.is_empty() {
        let records = daemon.records(Vec::new()).await?;
        let mut all = Vec::new();
        for record in &records {
            all.extend(standing(daemon, &record.sandbox_id).await?);
        }
        all.extend(unrecorded(daemon, &records).await?);
        for status in all.iter().filter(|status| state(status) == "ready") {
            if let Ok(metric) = daemon.metrics(&status.sandbox_id).await {
                samples.push(Sample::of(&status.sandbox_id, metric)?);
            }
        }
    }
    Ok(samples)
}

impl Sample {
    fn of(id: &str, metric: Metric) -> anyhow::Result<Self> {
        let data = metric.data.unwrap_or_default();
        let counters = Metrics::decode(data.value.as_slice())
            .with_context(|| format!("thecad's counters of sandbox {id} make no sense"))?;
        Ok(Self { id: id.into(), at_ms: metric.timestamp.as_ref().map_or(0, ms), counters })
    }

    fn cpu_usec(&self) -> u64 {
        self.counters.cpu.as_ref().map_or(0, |cpu| cpu.usage_usec)
    }

    fn since(&self, before: &[Self]) -> Use {
        let cpu_percent = before.iter().find(|sample| sample.id == self.id).map_or(0.0, |before| {
            let used = self.cpu_usec().saturating_sub(before.cpu_usec()) as f64;
            let passed = self.at_ms.saturating_sub(before.at_ms) as f64 * 1000.0;
            if passed > 0.0 { used / passed * 100.0 } else { 0.0 }
        });
        let memory = self.counters.memory.unwrap_or_default();
        let disks = self.counters.io.as_ref().map_or(&[][..], |io| &io.usage);
        let interfaces = &self.counters.network;
        Use {
            id: self.id.clone(),
            cpu_percent,
            memory: memory.usage,
            memory_limit: memory.usage_limit,
            received: total(interfaces.iter().map(|interface| interface.rx_bytes)),
            sent: total(interfaces.iter().map(|interface| interface.tx_bytes)),
            read: total(disks.iter().map(|device| device.rbytes)),
            written: total(disks.iter().map(|device| device.wbytes)),
            pids: self.counters.pids.as_ref().map_or(0, |pids| pids.current),
        }
    }
}

/// The sum of what a guest has told, which may be anything.
fn total(counters: impl Iterator<Item = u64>) -> u64 {
    counters.fold(0, u64::saturating_add)
}

impl Use {
    fn cpu(&self) -> String {
        format!("{:.2}%", self.cpu_percent)
    }

    fn net_io(&self) -> String {
        format!("{} / {}", size::human(self.received), size::human(self.sent))
    }

    fn entry(&self) -> Value {
        json!({
            "ID": self.id,
            "CPUPerc": self.cpu(),
            "MemUsage": format!("{} / {}", size::human(self.memory), size::human(self.memory_limit)),
            "MemBytes": self.memory,
            "MemLimitBytes": self.memory_limit,
            "NetIO": self.net_io(),
            "NetReceivedBytes": self.received,
            "NetSentBytes": self.sent,
            "BlockIO": format!("{} / {}", size::human(self.read), size::human(self.written)),
            "PIDs": self.pids,
        })
    }
}

fn print(format: &Format, uses: &[Use]) -> anyhow::Result<()> {
    let entries: Vec<Value> = uses.iter().map(Use::entry).collect();
    listing::print(format, &entries, || {
        let mut table =
            Table::new(&["SANDBOX ID", "CPU %", "MEM USAGE / LIMIT", "NET I/O", "BLOCK I/O", "PIDS"]);
        for one in uses {
            table.row([
                one.id.clone(),
                one.cpu(),
                format!("{} / {}", size::human(one.memory), size::human(one.memory_limit)),
                one.net_io(),
                format!("{} / {}", size::human(one.read), size::human(one.written)),
                one.pids.to_string(),
            ]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use theca_proto::io::containerd::cgroups::v2::{CpuStat, NetworkStat};

    use super::*;

    fn sample(id: &str, at_ms: u64, usage_usec: u64) -> Sample {
        let cpu = Some(CpuStat { usage_usec, ..CpuStat::default() });
        Sample { id: id.into(), at_ms, counters: Metrics { cpu, ..Metrics::default() } }
    }

    #[test]
    fn processor_use_is_what_was_used_since_the_look_before() {
        let before = [sample("other", 1000, 9_000_000), sample("web", 1000, 500_000)];
        assert_eq!(sample("web", 3000, 1_500_000).since(&before).cpu(), "50.00%");
        assert_eq!(sample("new", 3000, 1_500_000).since(&before).cpu(), "0.00%");
        // A sandbox that was started anew counts from zero.
        assert_eq!(sample("web", 3000, 10).since(&before).cpu(), "0.00%");
    }

    #[test]
    fn what_went_over_all_interfaces_is_shown_together() {
        let mut web = sample("web", 1000, 0);
        for (rx_bytes, tx_bytes) in [(100, 2), (400, 1), (u64::MAX, 0)] {
            web.counters.network.push(NetworkStat { rx_bytes, tx_bytes, ..NetworkStat::default() });
        }
        let entry = web.since(&[]).entry();
        let net = [&entry["NetReceivedBytes"], &entry["NetSentBytes"]];
        assert_eq!(net, [&Value::from(u64::MAX), &3.into()], "{entry:#}");
        assert!(entry["NetIO"].as_str().unwrap().ends_with(" / 3B"), "{entry:#}");
    }
}
