//! `theca ps`: containers as their records and keepers have them.

use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use theca_proto::containerd::v1::types::Status;

use crate::container::settle::{Settled, settle};
use crate::container::{Exit, Phase, Roots, Shelf};
use crate::output::listing::{self, Format};
use crate::output::{self, Table, time};

/// How much of a command or image the table shows.
const WIDEST: usize = 20;

/// Flags of `ps`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Also containers that do not run
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only those that match: id, name, label, status, ancestor or exited. Of one key any value will do, but every label must
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// The last made one, running or not
    #[arg(short, long)]
    latest: bool,
    /// The last made ones, running or not
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// table, json or a template such as '{{.Names}}'
    #[arg(long, default_value = "table")]
    format: String,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let filters = args.filter.iter().map(|filter| Filter::parse(filter)).collect::<Result<Vec<_>, _>>()?;
    let format: Format = args.format.parse()?;
    let mut all = Vec::new();
    for id in shelf.ids()? {
        match settle(&shelf, &id).await {
            Ok(Some(settled)) => all.push(settled),
            Ok(None) => {}
            Err(error) => output::warn(&format!("container {}: {error:#}", id.short())),
        }
    }
    all.sort_by_key(|settled| std::cmp::Reverse(settled.record.created_ms));
    let last = if args.latest { Some(1) } else { args.last };
    let by_status = filters.iter().any(|filter| matches!(filter, Filter::Status(_) | Filter::Exited(_)));
    let even_stopped = args.all || last.is_some() || by_status;
    all.retain(|settled| (even_stopped || settled.live.is_some()) && passes(&filters, settled));
    all.truncate(last.unwrap_or(usize::MAX));
    if args.quiet {
        let ids = all.iter().map(|settled| {
            let id = &settled.record.id;
            if args.no_trunc { id.as_str() } else { id.short() }
        });
        for id in ids {
            output::line(id)?;
        }
        return Ok(0);
    }
    let now = time::now_ms();
    let entries: Vec<Value> = all.iter().map(|settled| entry(settled, now, args.no_trunc)).collect();
    listing::print(&format, &entries, || table(&all, now, args.no_trunc))?;
    Ok(0)
}

/// The one word for how a container stands, docker's.
pub fn state(settled: &Settled) -> &'static str {
    match (&settled.record.phase, settled.live.as_ref().map(|(_, status)| status)) {
        (_, Some(Status::Paused | Status::Pausing)) => "paused",
        (_, Some(Status::Running)) => "running",
        (_, Some(_)) | (Phase::Created | Phase::Starting, None) => "created",
        (Phase::Started { .. } | Phase::Exited(_), None) => "exited",
    }
}

fn status(settled: &Settled, now: u64) -> String {
    let since = |ms: u64| time::span(Duration::from_millis(now.saturating_sub(ms)));
    match (&settled.record.phase, state(settled)) {
        (Phase::Exited(Exit { status, finished_ms, .. }), "exited") => {
            format!("Exited ({status}) {}", time::ago(*finished_ms, now))
        }
        (Phase::Started { at_ms }, "paused") => format!("Up {} (Paused)", since(*at_ms)),
        (Phase::Started { at_ms }, "running") => format!("Up {}", since(*at_ms)),
        (_, "running") => "Up Less than a second".into(),
        (_, "created") => "Created".into(),
        _ => "Exiting".into(),
    }
}

fn entry(settled: &Settled, now: u64, full: bool) -> Value {
    let record = &settled.record;
    let exit_code = match &record.phase {
        Phase::Exited(exit) => Some(exit.status),
        _ => None,
    };
    json!({
        "ID": if full { record.id.as_str() } else { record.id.short() },
        "Names": record.name.as_str(),
        "Image": record.source.shown(),
        "Command": record.command.join(" "),
        "CreatedAt": time::rfc3339(record.created_ms),
        "RunningFor": time::ago(record.created_ms, now),
        "State": state(settled),
        "Status": status(settled, now),
        "ExitCode": exit_code,
        "Labels": record.labels,
    })
}

fn table(all: &[Settled], now: u64, full: bool) -> Table {
    let mut table = Table::new(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"]);
    for settled in all {
        let record = &settled.record;
        let command = record.command.join(" ");
        table.row([
            if full { record.id.to_string() } else { record.id.short().to_owned() },
            record.source.shown(),
            format!("\"{}\"", if full { command } else { shorten(&command) }),
            time::ago(record.created_ms, now),
            status(settled, now),
            record.name.to_string(),
        ]);
    }
    table
}

fn shorten(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= WIDEST {
        return text;
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// As docker has it: what is asked of different things must all be true, of several values of one thing any, for it has but
/// one. A container may have many labels, so those are different things.
fn passes(filters: &[Filter], settled: &Settled) -> bool {
    let kind = std::mem::discriminant::<Filter>;
    filters.iter().all(|filter| match filter {
        Filter::Label(..) => filter.matches(settled),
        _ => filters.iter().any(|other| kind(other) == kind(filter) && other.matches(settled)),
    })
}

/// One `--filter`.
#[derive(Debug, PartialEq, Eq)]
enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
    Status(String),
    Ancestor(String),
    Exited(u32),
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((key, value)) = text.split_once('=') else {
            bail!("--filter {text} has no value; write KEY=VALUE")
        };
        let owned = value.to_owned();
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(owned),
            "status" if ["created", "running", "paused", "exited"].contains(&value) => Self::Status(owned),
            "status" => bail!("--filter status={value}: use created, running, paused or exited"),
            "ancestor" => Self::Ancestor(owned),
            "exited" => match value.parse() {
                Ok(status) => Self::Exited(status),
                Err(_) => bail!("--filter exited={value}: use an exit status"),
            },
            "label" => match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            _ => bail!("--filter {key} is not known; use id, name, label, status, ancestor or exited"),
        })
    }

    fn matches(&self, settled: &Settled) -> bool {
        let record = &settled.record;
        match self {
            Self::Id(id) => record.id.as_str().starts_with(id),
            Self::Name(name) => record.name.as_str().contains(name),
            Self::Status(wanted) => state(settled) == wanted,
            Self::Ancestor(image) => record.source.shown() == *image,
            Self::Exited(wanted) => matches!(&record.phase, Phase::Exited(exit) if exit.status == *wanted),
            Self::Label(name, value) => {
                record.labels.get(name).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record_for_tests;

    fn stopped(status: u32) -> Settled {
        let mut record = record_for_tests("web");
        record.phase = Phase::Exited(Exit {
            status,
            started_ms: 0,
            finished_ms: 60_000,
            oom_killed: false,
            error: None,
        });
        Settled { record, live: None }
    }

    #[test]
    fn an_exited_container_tells_its_status_and_when() {
        let settled = stopped(3);
        assert_eq!(state(&settled), "exited");
        assert_eq!(status(&settled, 60_000 + 180_000), "Exited (3) 3 minutes ago");
        assert_eq!(entry(&settled, 0, false)["ExitCode"], 3);
        let created = Settled { record: record_for_tests("web"), live: None };
        assert_eq!((state(&created), status(&created, 0).as_str()), ("created", "Created"));
    }

    #[test]
    fn filters_pick() {
        let settled = stopped(3);
        for (filter, matches) in [
            ("name=we", true),
            ("name=db", false),
            ("status=exited", true),
            ("status=running", false),
            ("exited=3", true),
            ("exited=0", false),
            ("label=tier", true),
            ("label=tier=web", true),
            ("label=tier=db", false),
            ("ancestor=/srv/root", true),
            (&format!("id={}", settled.record.id.short()), true),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&settled), matches, "{filter}");
        }
        for bad in ["name", "colour=red", "status=flying", "exited=x"] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_of_one_key_are_a_choice_and_keys_and_labels_all_count() {
        let settled = stopped(3);
        for (filters, passed) in [
            (&["status=created", "status=exited"][..], true),
            (&["exited=0", "exited=3", "name=we"], true),
            (&["exited=0", "exited=3", "name=db"], false),
            (&["name=db", "name=we"], true),
            (&["status=created", "status=running"], false),
            (&["label=tier=web", "label=tier"], true),
            (&["label=tier=web", "label=other"], false),
            (&[], true),
        ] {
            let parsed: Vec<_> = filters.iter().map(|filter| Filter::parse(filter).unwrap()).collect();
            assert_eq!(passes(&parsed, &settled), passed, "{filters:?}");
        }
    }

    #[test]
    fn the_table_shortens_long_commands() {
        assert_eq!(shorten("sleep 60"), "sleep 60");
        assert_eq!(shorten("sh -c 'echo one; echo two'"), "sh -c 'echo one; ec…");
        assert_eq!(shorten("a\nb"), "a b");
    }
}
