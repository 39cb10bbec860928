//! `theca check`: whether this machine can run microVMs, and what to do if not.

use serde_json::Value;

use crate::container::Roots;
use crate::host::report::{self, Finding, Verdict};
use crate::output;
use crate::output::listing::Format;

/// Flags of `check`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// table, json or a template such as '{{.Name}}: {{.Verdict}}'
    #[arg(long, default_value = "table")]
    format: String,
}

/// Runs the command. The exit code is 1 if something is missing that nothing works without.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let findings = report::all(&Roots::from_env());
    match args.format.parse::<Format>()? {
        Format::Table => findings.iter().flat_map(lines).try_for_each(|line| output::line(&line))?,
        format => {
            let entries = findings.iter().map(serde_json::to_value).collect::<Result<Vec<Value>, _>>()?;
            output::listing::print(&format, &entries, || output::Table::new(&[]))?;
        }
    }
    Ok(u8::from(findings.iter().any(|finding| finding.verdict == Verdict::Missing)))
}

fn lines(finding: &Finding) -> Vec<String> {
    let mark = match finding.verdict {
        Verdict::Ok => "ok     ",
        Verdict::Warning => "warning",
        Verdict::Missing => "MISSING",
    };
    let mut lines = vec![format!("{mark}  {:<17} {}", finding.name, finding.found)];
    if !finding.advice.is_empty() {
        lines.push(format!("         {:<17} → {}", "", finding.advice));
    }
    lines
}
