//! Running other programs: quietly while they succeed, with their own words when they fail.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

/// How much of a failed program's output is shown.
const TAIL_LINES: usize = 40;

/// A command that runs as root: directly when we are root, else through sudo.
pub fn as_root(program: &str) -> Command {
    if Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// Runs a command with no stdin and gives its stdout; a failure carries the end of what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("failed to start `{shown}`"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    bail!("`{shown}` ended with {}:\n{}", output.status, tail(&said, TAIL_LINES))
}

/// Like [`output`], for commands whose stdout does not matter.
pub fn quietly(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// A cargo subcommand in this workspace, with the dependencies that the lock file names.
pub fn cargo(subcommand: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).arg(subcommand).arg("--locked");
    cargo
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A word as the shell reads it back.
pub fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The top folder of this tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(160) {
        Some((cut, _)) => format!("{} …", &line[..cut]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_survives_the_shell() {
        for word in ["plain", "two words", "it's", "$HOME `x` \\", "", "a\nb"] {
            let echoed =
                output(Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word)))).unwrap();
            assert_eq!(echoed, word);
        }
    }

    #[test]
    fn a_failure_carries_the_programs_own_words() {
        let error = quietly(Command::new("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
