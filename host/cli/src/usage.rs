//! Reading the command line, and saying what was wrong with it in docker's manner.

mod unsupported;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{self, Work};
use crate::error::FAILED;
use crate::output;

/// What the command line asks for, or the exit code when there is nothing more to do.
pub fn parse() -> Result<Work, ExitCode> {
    let line: Vec<OsString> = std::env::args_os().collect();
    args::parse(line.clone()).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has gone (`| head`) is no error.
            let _ = output::line(error.to_string().trim_end());
            ExitCode::SUCCESS
        }
        _ => {
            output::warn(&explain(&error.to_string(), &line));
            ExitCode::from(FAILED)
        }
    })
}

/// Clap's first paragraph as one line, its tips and ours, without its headings.
fn explain(text: &str, line: &[OsString]) -> String {
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let what = what.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let flag = what.strip_prefix("unexpected argument '").and_then(|rest| rest.split('\'').next());
    let tips: String = match flag.and_then(unsupported::reason) {
        Some(reason) => format!(": {reason}"),
        None => {
            let tips = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
            // How to pass a flag as if it were none helps nobody who meant one.
            tips.filter(|tip| !tip.starts_with("to pass ")).map(|tip| format!("; {tip}")).collect()
        }
    };
    format!("{what}{tips}\nSee '{} --help'.", asked(line))
}

/// The command that a line is for, such as `theca image pull`.
fn asked(line: &[OsString]) -> String {
    let mut known = args::command();
    known.build();
    let (mut words, mut command) = (vec!["theca"], &known);
    for word in line.iter().skip(1).filter_map(|word| word.to_str()) {
        match command.find_subcommand(word) {
            Some(found) => {
                words.push(word);
                command = found;
            }
            None => break,
        }
    }
    words.join(" ")
}

/// What to do about an error that only the whole chain shows.
pub fn advice(error: &anyhow::Error) -> &'static str {
    let mut io_errors =
        error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match io_errors.next() {
        Some(io::ErrorKind::PermissionDenied) if !nix::unistd::geteuid().is_root() => {
            "; run theca as root, or point THECA_ROOT and THECA_STATE to folders of yours"
        }
        Some(io::ErrorKind::StorageFull) => "; free some space, or point THECA_ROOT elsewhere",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: &[&str]) -> String {
        let words: Vec<OsString> = line.iter().map(OsString::from).collect();
        explain(&args::parse(line).err().unwrap().to_string(), &words)
    }

    #[test]
    fn an_unknown_flag_is_named_and_help_pointed_to() {
        let text = complaint(&["theca", "run", "--bogus", "image"]);
        assert_eq!(text, "unexpected argument '--bogus' found\nSee 'theca run --help'.");
    }

    #[test]
    fn a_flag_that_is_nearly_right_gets_a_tip() {
        let text = complaint(&["theca", "run", "--memry", "1g", "image"]);
        assert!(text.contains("--memory"), "{text}");
    }

    #[test]
    fn a_flag_of_docker_gets_a_reason() {
        let text = complaint(&["theca", "run", "--privileged", "image"]);
        assert!(
            text.starts_with("unexpected argument '--privileged' found: ") && text.contains("--cap-add"),
            "{text}"
        );
    }

    #[test]
    fn a_bad_value_is_a_line_and_points_to_the_command() {
        let text = complaint(&["theca", "run", "--pull", "sometimes", "image"]);
        assert!(
            text.ends_with("possible values: missing, always, never]\nSee 'theca run --help'."),
            "{text}"
        );
        let text = complaint(&["theca", "image", "rm"]);
        assert!(text.ends_with("not provided: <IMAGE>...\nSee 'theca image rm --help'."), "{text}");
    }

    #[test]
    fn an_unknown_command_is_named() {
        let text = complaint(&["theca", "fly"]);
        assert!(text.contains("'fly'") && text.ends_with("See 'theca --help'."), "{text}");
    }

    #[test]
    fn advice_goes_by_the_cause() {
        let full =
            anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context("failed to write x");
        assert!(advice(&full).contains("THECA_ROOT"));
        assert_eq!(advice(&anyhow::anyhow!("other")), "");
    }
}
