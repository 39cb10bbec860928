//! `theca sandbox events`: what happens to containers, as it happens.

use serde_json::{Value, json};
use theca_proto::types::Event;

use crate::daemon::Daemon;
use crate::output::{self, Template, time};

/// Flags of `sandbox events`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// json for one object in each line, or a template such as '{{.Type}} {{.ID}}' [default: lines for people]
    #[arg(long)]
    format: Option<String>,
}

/// Runs the command, until thecad or the reader goes.
pub async fn run(args: Args, daemon: &Daemon) -> anyhow::Result<u8> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut events = daemon.events().await?;
    while let Some(event) = events.next().await? {
        let entry = entry(&event, time::now_ms());
        output::line(&match &template {
            Some(template) => template.render(&entry)?,
            None if args.format.is_some() => entry.to_string(),
            None => line(&event, time::now_ms()),
        })?;
    }
    Ok(0)
}

/// Its time is when it was told: the event itself has none.
fn entry(event: &Event, now: u64) -> Value {
    json!({
        "Time": time::rfc3339(now),
        "Type": event.r#type,
        "ID": event.id,
        "Pid": event.pid,
        "Status": (event.r#type == "exit").then_some(event.status),
    })
}

fn line(event: &Event, now: u64) -> String {
    let mut facts = Vec::new();
    if event.pid != 0 {
        facts.push(format!("pid={}", event.pid));
    }
    if event.r#type == "exit" {
        facts.push(format!("status={}", event.status));
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) };
    format!("{} {} {}{facts}", time::rfc3339(now), event.r#type, event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_and_when_and_an_exit_how() {
        let event = |kind: &str, pid, status| Event {
            r#type: kind.into(),
            id: "web".into(),
            pid,
            status,
            ..Event::default()
        };
        assert_eq!(line(&event("pause", 0, 0), 0), "1970-01-01T00:00:00.000Z pause web");
        assert_eq!(line(&event("exit", 5, 3), 0), "1970-01-01T00:00:00.000Z exit web (pid=5, status=3)");
        assert_eq!(entry(&event("exit", 5, 3), 0)["Status"], 3);
        assert_eq!(entry(&event("start-container", 5, 0), 0)["Status"], Value::Null);
    }
}
