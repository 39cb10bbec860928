//! `theca sandbox inspect`: record, standing and what keeper and guest tell, as JSON.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{create, ms, word};
use crate::daemon::Daemon;
use crate::error::FAILED;
use crate::output::{self, Template, time};

/// Flags of `sandbox inspect`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// json, or a template such as '{{.State}}'
    #[arg(short, long, default_value = "json")]
    format: String,
    /// The sandboxes' ids
    #[arg(required = true, value_name = "SANDBOX")]
    sandboxes: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let template = (args.format != "json").then(|| Template::parse(&args.format)).transpose()?;
    let (mut all, mut code) = (Vec::new(), 0);
    for id in &args.sandboxes {
        match describe(daemon, id).await {
            Ok(value) => all.push(value),
            Err(error) => {
                output::warn(&format!("{error:#}"));
                code = FAILED;
            }
        }
    }
    match template {
        None => output::line(&serde_json::to_string_pretty(&all)?)?,
        Some(template) => {
            for value in &all {
                output::line(&template.render(value)?)?;
            }
        }
    }
    Ok(code)
}

async fn describe(daemon: &Daemon, id: &str) -> anyhow::Result<Value> {
    let record = match daemon.record(id).await {
        // Whoever made it kept no record here, as containerd does.
        Err(error) if error.is_not_found() => None,
        other => Some(other?),
    };
    let status = match daemon.status(id, true).await {
        Err(error) if error.is_not_found() && record.is_some() => None,
        other => Some(other?),
    };
    let state = word(status.as_ref());
    let status = status.unwrap_or_default();
    let options = record.as_ref().and_then(create::options);
    let at = |at: Option<&prost_types::Timestamp>| at.map(|at| time::rfc3339(ms(at)));
    // Most of what is told is text; some of it is JSON.
    let info: BTreeMap<_, _> = status.info.iter().map(|(name, text)| (name, fact(text))).collect();
    Ok(json!({
        "Id": id,
        "State": state,
        "Pid": status.pid,
        "Address": status.address,
        "Version": status.version,
        "CreatedAt": at(status.created_at.as_ref()),
        "ExitedAt": at(status.exited_at.as_ref()),
        "CPUs": options.as_ref().map(|options| options.vcpus),
        "MemoryBytes": options.as_ref().map(|options| options.memory_bytes),
        "Labels": record.map(|record| record.labels),
        "Info": info,
    }))
}

/// A number or JSON as such, everything else as text.
fn fact(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_keep_their_shape() {
        assert_eq!(fact("12"), json!(12));
        assert_eq!(fact("[\"web\"]"), json!(["web"]));
        assert_eq!(fact("6.12.107-theca"), json!("6.12.107-theca"));
        assert_eq!(fact(""), json!(""));
    }
}
