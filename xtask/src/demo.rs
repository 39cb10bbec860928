//! `cargo xtask demo`: from a fresh machine to a Debian container in a virtual machine of its own.
//!
//! Builds what ships, makes an image of Debian's packages, and runs `demo.sh` where sandboxes run: what it shows are
//! plain `theca` commands. The table of a start's phases is printed here, from what `theca inspect` told.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build::{self, Profile};
use crate::probe::Place;
use crate::testbed::{self, Copy, Job};
use crate::{command, image};

const SCRIPT: &str = include_str!("demo.sh");
/// How `theca inspect` marks the phases that the guest timed.
const GUEST: &str = "guest:";
const TIME_LIMIT: Duration = Duration::from_secs(900);

#[derive(clap::Args)]
pub struct Args {
    /// Use the test host even if this machine's KVM would do
    #[arg(long)]
    in_testbed: bool,
    #[command(flatten)]
    profile: Profile,
}

/// Runs `cargo xtask demo`.
pub fn run(args: Args) -> Result<ExitCode> {
    let programs = build::build(&args.profile)?;
    let layout = image::debian()?.join("layout");
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(SCRIPT.as_bytes())?;
    let inspected = tempfile::NamedTempFile::new()?;
    match Place::find() {
        Place::Here if !args.in_testbed => {
            let path = std::env::var("PATH").unwrap_or_default();
            let mut demo = command::as_root("env");
            demo.arg(format!("PATH={}:{path}:/usr/sbin:/sbin", programs.folder().join("bin").display()));
            demo.arg("sh").arg(script.path()).arg(&layout).arg(inspected.path());
            let status = demo.status().context("failed to start the demo")?;
            if !status.success() {
                bail!("the demo ended with {status}");
            }
        }
        _ => in_testbed(&programs, script.path(), &layout, inspected.path())?,
    }
    let text = std::fs::read_to_string(inspected.path()).context("failed to read what theca inspect told")?;
    print!("{}", phases(&serde_json::from_str(&text).context("theca inspect wrote no JSON")?)?);
    Ok(ExitCode::SUCCESS)
}

fn in_testbed(programs: &build::InstallTree, script: &Path, layout: &Path, inspected: &Path) -> Result<()> {
    let mut with: Vec<_> = programs.files()?.into_iter().map(|(from, to)| Copy::new(from, to)).collect();
    with.push(Copy::new(script, "/root/demo.sh"));
    with.push(Copy::new(layout, "/root/debian"));
    let job = Job {
        command: ["sh", "demo.sh", "debian", "inspect.json"].map(str::to_owned).into(),
        with,
        out: vec![Copy::new("/root/inspect.json", inspected)],
        icount: false,
        memory_mib: 4096,
        timeout: TIME_LIMIT,
    };
    match testbed::execute(&job)? {
        0 => Ok(()),
        code => bail!("the demo ended with {code} in the test host"),
    }
}

/// The points of a start in order of time, and the guest's own, whose clock starts with its kernel, after them; each with
/// the time since the one before on the same clock, in ms.
fn phases(inspected: &Value) -> Result<String> {
    let list = inspected[0]["Sandbox"]["phases"].as_array().context("theca inspect tells no phases")?;
    let mut points = Vec::new();
    for phase in list {
        let name = phase["name"].as_str().context("a phase has no name")?;
        let at = phase["at_us"].as_f64().context("a phase has no time")? / 1000.0;
        points.push((name.starts_with(GUEST), at, name));
    }
    points.sort_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let mut text = format!("{:<28} {:>9} {:>9}\n", "phase", "at ms", "took ms");
    let (mut clock, mut before) = (false, 0.0);
    for (guest, at, name) in points {
        if guest != clock {
            text += "by the guest's clock\n";
            (clock, before) = (guest, 0.0);
        }
        text += &format!("{:<28} {at:>9.1} {:>9.1}\n", name.replace('_', " "), at - before);
        before = at;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn each_phase_shows_when_it_came_and_how_long_it_took_on_its_own_clock() {
        let phases = json!([
            {"name": "vmm_spawned", "at_us": 1500},
            {"name": "guest:init", "at_us": 80_000},
            {"name": "agent_ready", "at_us": 151_500},
        ]);
        let table = super::phases(&json!([{ "Sandbox": { "phases": phases } }])).unwrap();
        let rows: Vec<Vec<&str>> =
            table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["vmm", "spawned", "1.5", "1.5"]);
        assert_eq!(rows[1], ["agent", "ready", "151.5", "150.0"]);
        assert_eq!(rows[3], ["guest:init", "80.0", "80.0"]);
        assert!(super::phases(&json!([{}])).is_err());
    }
}
