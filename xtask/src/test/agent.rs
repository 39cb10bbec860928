//! The agent's containers without a VM around them: theca-agent's integration tests, which run its services as a process and
//! need root, cgroup v2 and loop devices.
//!
//! They take `agent_on_host`, an example of theca-agent, from where cargo puts it: `../examples` as seen from the tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::here::{self, AGENT};
use super::tally::Tally;
use super::{Args, e2e};
use crate::probe::Place;
use crate::testbed::{Copy, Job};
use crate::{apt, command};

const EXAMPLE: &str = "agent_on_host";
/// What a guest for tests is made with; `mount` has losetup.
const TOOLS: [&str; 3] = ["busybox-static", "e2fsprogs", "mount"];
/// In the test host, whose tests are in `/root/tests`.
const EXAMPLES: &str = "/root/examples";

/// Runs them where sandboxes run; what that is in a test host becomes one of `jobs`.
pub fn run(args: &Args, jobs: &mut Vec<Job>) -> Result<Tally> {
    let tests = e2e::test_binaries(AGENT, &here::integration_tests(|package| package == AGENT)?)?;
    let example = example()?;
    match Place::find() {
        Place::Here if !args.in_testbed => {
            apt::install(&TOOLS)?;
            e2e::as_root(&tests, &[], args)
        }
        _ => {
            let with = vec![Copy::new(&example, Path::new(EXAMPLES).join(EXAMPLE))];
            jobs.push(e2e::job(&tests, with, args));
            Ok(Tally::default())
        }
    }
}

/// Builds the agent that runs as a process, and gives its path.
fn example() -> Result<PathBuf> {
    let mut cargo = command::cargo("build");
    cargo.args(["--package", AGENT, "--example", EXAMPLE, "--message-format", "json-render-diagnostics"]);
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("failed to start cargo")?;
    if !output.status.success() {
        bail!("{EXAMPLE} does not build");
    }
    built(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("cargo has not said where {EXAMPLE} is"))
}

/// The example's path in cargo's messages.
fn built(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut examples = messages.filter(|message| message["target"]["name"] == EXAMPLE);
    examples.find_map(|example| Some(PathBuf::from(example["executable"].as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_where_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"theca_agent"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"agent_on_host"},"executable":"/t/examples/agent_on_host"}"#,
            "\n{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(built(messages), Some("/t/examples/agent_on_host".into()));
        assert_eq!(built("{}\nno JSON"), None);
    }
}
