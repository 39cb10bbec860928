//! `cargo xtask bench`: one table of figures beside their goals and their peers.
//!
//! All come from one run of `theca-bench` (tests/bench) in a test host whose clock counts instructions at 500 million a
//! second: there a figure repeats to a few per cent, so two commits can be compared. Between machines only the order of
//! figures means something.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build::{self, Profile};
use crate::testbed::{self, Copy, Job};

#[derive(clap::Args)]
pub struct Args {
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// End with exit code 1 if a figure is over its goal
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    profile: Profile,
}

/// A figure, what it means and what it should stay below.
struct Row {
    key: &'static str,
    meaning: &'static str,
    goal: Option<f64>,
}

const ROWS: [Row; 20] = [
    Row { key: "agent_ready_s", meaning: "start of the VMM process → agent ready", goal: Some(0.20) },
    Row {
        key: "run_echo_cold_s",
        meaning: "theca run --rm … echo, start to end, files cached",
        goal: Some(0.40),
    },
    Row { key: "run_echo_disk_s", meaning: "theca run … echo, writable layer on disk", goal: None },
    Row { key: "exec_s", meaning: "theca exec … true, start to end", goal: Some(0.05) },
    Row { key: "vmm_mib", meaning: "resident memory of the VMM, guest RAM apart", goal: Some(5.0) },
    Row { key: "keeper_mib", meaning: "resident memory of the keeper", goal: Some(4.0) },
    Row { key: "agent_mib", meaning: "resident memory of the agent", goal: Some(6.0) },
    Row { key: "guest_used_mib", meaning: "memory in use in a 128 MiB guest", goal: Some(32.0) },
    Row { key: "sandbox_ready_s", meaning: "thecad: sandbox Start → Ready", goal: None },
    Row { key: "container_start_s", meaning: "thecad: container Create + Start", goal: Some(0.08) },
    Row { key: "exec_rpc_s", meaning: "thecad: Exec of true → its exit is told", goal: None },
    Row { key: "events_per_s", meaning: "thecad: events caused and read in a second", goal: None },
    Row { key: "thecad_mib", meaning: "resident memory of thecad, idle", goal: Some(12.0) },
    Row { key: "thecad_full_mib", meaning: "the same with 20 sandboxes", goal: Some(14.0) },
    Row { key: "thecad_mib_per_sandbox", meaning: "the difference for each of them", goal: Some(0.1) },
    Row { key: "keeper_idle_mib", meaning: "keeper of a sandbox without containers", goal: Some(4.0) },
    Row { key: "keeper_full_mib", meaning: "the largest keeper of 20 sandboxes", goal: Some(4.0) },
    Row { key: "runc_run_s", meaning: "runc run … echo, no VM", goal: None },
    Row { key: "crun_run_s", meaning: "crun run … echo, no VM", goal: None },
    Row { key: "qemu_microvm_s", meaning: "QEMU microvm start → agent ready, same guest", goal: None },
];

/// Runs `cargo xtask bench`.
pub fn run(args: Args) -> Result<ExitCode> {
    let programs = build::build(&args.profile)?;
    let bench = build::test_program("theca-bench", &args.profile)?;
    let figures = tempfile::NamedTempFile::new()?;
    let mut with: Vec<_> = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect();
    with.push(Copy::new(bench, "/usr/bin/theca-bench"));
    let job = Job {
        command: vec!["theca-bench".into(), "/root/figures.json".into()],
        with,
        out: vec![Copy::new("/root/figures.json", figures.path())],
        icount: true,
        memory_mib: 4096,
        timeout: Duration::from_secs(1800),
    };
    let code = testbed::execute(&job)?;
    if code != 0 {
        bail!("theca-bench ended with {code} in the test host");
    }
    let text = std::fs::read_to_string(figures.path()).context("failed to read the figures")?;
    let figures: Value = serde_json::from_str(&text).context("theca-bench wrote no JSON")?;
    if args.json {
        println!("{figures}");
    } else {
        print!("{}", table(&figures));
    }
    Ok(if args.check && ROWS.iter().any(|row| row.misses(&figures)) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Row {
    /// A goal that there is no figure for is missed too.
    fn misses(&self, figures: &Value) -> bool {
        self.goal.is_some_and(|goal| figures[self.key].as_f64().is_none_or(|value| value > goal))
    }
}

fn table(figures: &Value) -> String {
    let mut text = format!("{:<22} {:>9} {:>7}  {}\n", "figure", "value", "goal", "what");
    for row in &ROWS {
        let value = figures[row.key].as_f64();
        let shown = value.map_or("–".to_owned(), trimmed);
        let goal = row.goal.map_or(String::new(), |goal| format!("≤ {}", trimmed(goal)));
        let mark = if row.misses(figures) { "  (missed)" } else { "" };
        text += &format!("{:<22} {shown:>9} {goal:>7}  {}{mark}\n", row.key, row.meaning);
    }
    text += "\nstart of one sandbox                    at ms\n";
    for phase in figures["phases"].as_array().into_iter().flatten() {
        let (name, at) = (phase["name"].as_str().unwrap_or("?"), phase["at_ms"].as_f64().unwrap_or(0.0));
        text += &format!("  {name:<34} {at:>8.1}\n");
    }
    text
}

fn trimmed(value: f64) -> String {
    format!("{:.3}", value).trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_over_its_goal_is_marked() {
        let text = table(
            &json!({"exec_s": 0.06, "vmm_mib": 4.0, "phases": [{"name": "agent_ready", "at_ms": 150.0}]}),
        );
        let line = |key| text.lines().find(|line| line.starts_with(key)).unwrap();
        assert!(line("exec_s").ends_with("(missed)"));
        assert!(!line("vmm_mib").contains("missed"));
        assert!(line("runc_run_s").contains('–'));
        assert!(text.contains("agent_ready "));
    }
}
