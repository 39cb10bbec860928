//! `theca logs`: what a container has written, and with `-f` what it goes on to write.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::running::look_up;
use crate::container::{Roots, Shelf};
use crate::log::{Entry, Reader, Stream, tail};
use crate::output::time;

/// How often a followed log is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `logs`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines; all, or a number
    #[arg(short = 'n', long, default_value = "all", value_name = "LINES")]
    tail: String,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Only what came after a time: 2026-01-31T12:00:00Z, seconds since 1970, or a span before now such as 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what came before a time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The container's name or id
    container: String,
}

/// What to show.
struct Choice {
    timestamps: bool,
    since: Option<String>,
    until: Option<String>,
    /// Whether the next text begins a line, for each stream.
    fresh: [bool; 2],
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let record = look_up(&shelf, &args.container).await?.record;
    let lines = match args.tail.as_str() {
        "all" | "-1" => None,
        number => {
            Some(number.parse().with_context(|| format!("--tail {number} is neither all nor a number"))?)
        }
    };
    // Times of one form and zone are ordered like their texts.
    let point = |text: &Option<String>| {
        let now = Duration::from_millis(time::now_ms());
        text.as_deref().map(|text| time::parse(text, now).map(time::rfc3339_nanos)).transpose()
    };
    let (since, until) = (point(&args.since)?, point(&args.until)?);
    let mut choice = Choice { timestamps: args.timestamps, since, until, fresh: [true; 2] };
    let path = shelf.folder(&record.id).log();
    if record.settings.auto_remove && !path.exists() {
        bail!("container {} keeps no log: it was run with --rm in the foreground", args.container);
    }
    let mut reader = Reader::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut entries = reader.read().with_context(|| format!("failed to read {}", path.display()))?;
    entries.retain(|entry| choice.wants(entry));
    let shown = lines.map_or(entries.as_slice(), |lines| tail(&entries, lines));
    let mut over = !choice.print(shown)? || !args.follow;
    // A reader that has left (`| head`) ends it, be there something to write or not.
    while !over && is_read(io::stdout()) {
        // Asked before reading: what a container wrote before it ended is still shown.
        over = !shelf.folder(&record.id).path().exists()
            || look_up(&shelf, record.id.as_str()).await.map_or(true, |settled| settled.live.is_none());
        let mut entries = reader.read().with_context(|| format!("failed to read {}", path.display()))?;
        entries.retain(|entry| choice.wants(entry));
        over |= !choice.print(&entries)?;
        if !over {
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(0)
}

/// Whether what is written to `output` can still reach somebody: no longer, once a pipe's reader or a terminal has gone.
fn is_read(output: impl AsFd) -> bool {
    let mut asked = [PollFd::new(output.as_fd(), PollFlags::empty())];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(_) => {
            asked[0].revents().is_none_or(|told| !told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP))
        }
        // Writing will tell.
        Err(_) => true,
    }
}

impl Choice {
    fn wants(&self, entry: &Entry) -> bool {
        // `Z` sorts behind digits: without it, a shorter fraction sorts before a longer one as it should.
        let of = |text: &str| text.trim_end_matches('Z').to_owned();
        self.since.as_deref().is_none_or(|since| of(&entry.time) >= of(since))
            && self.until.as_deref().is_none_or(|until| of(&entry.time) <= of(until))
    }

    /// Answers whether somebody still reads.
    fn print(&mut self, entries: &[Entry]) -> io::Result<bool> {
        match entries.iter().try_for_each(|entry| self.print_one(entry)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn print_one(&mut self, entry: &Entry) -> io::Result<()> {
        let (mut out, fresh): (Box<dyn Write>, _) = match entry.stream {
            Stream::Stdout => (Box::new(io::stdout()), &mut self.fresh[0]),
            Stream::Stderr => (Box::new(io::stderr()), &mut self.fresh[1]),
        };
        if self.timestamps && *fresh {
            write!(out, "{} ", entry.time)?;
        }
        *fresh = entry.ends_line();
        out.write_all(&entry.text)?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_read_until_its_reader_has_gone() {
        let (reader, writer) = io::pipe().unwrap();
        assert!(is_read(&writer));
        (&writer).write_all(&[b'x'; 4096]).unwrap();
        assert!(is_read(&writer));
        drop(reader);
        assert!(!is_read(&writer));
        assert!(is_read(tempfile::tempfile().unwrap()), "a file always is");
    }
}
