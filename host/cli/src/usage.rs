//! Reading the command line, and saying what was wrong with it in docker's manner.

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::args::{self, Work};
use crate::error::FAILED;
use crate::output;

/// What the command line asks for, or the exit code when there is nothing more to do.
pub fn parse() -> Result<Work, ExitCode> {
    args::parse(std::env::args_os()).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has gone (`| head`) is no error.
            let _ = output::line(error.to_string().trim_end());
            ExitCode::SUCCESS
        }
        _ => {
            output::warn(&explain(&error.to_string()));
            ExitCode::from(FAILED)
        }
    })
}

/// Clap's first paragraph and its tips, without its headings.
fn explain(text: &str) -> String {
    let (what, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what).trim_end();
    let tips = rest.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let tips: String = tips.map(|tip| format!("; {tip}")).collect();
    let command = rest
        .lines()
        .find_map(|line| line.strip_prefix("Usage: "))
        .map(|usage| usage.split_whitespace().take_while(|word| !word.starts_with(['-', '[', '<'])))
        .map(|words| words.collect::<Vec<_>>().join(" "))
        .filter(|command| !command.is_empty())
        .unwrap_or_else(|| "theca".to_owned());
    format!("{what}{tips}\nSee '{command} --help'.")
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
        explain(&args::parse(line).err().unwrap().to_string())
    }

    #[test]
    fn an_unknown_flag_is_named_and_help_pointed_to() {
        let text = complaint(&["theca", "run", "--bogus", "image"]);
        assert!(text.starts_with("unexpected argument '--bogus' found"), "{text}");
        assert!(text.ends_with("See 'theca run --help'."), "{text}");
    }

    #[test]
    fn a_flag_that_is_nearly_right_gets_a_tip() {
        let text = complaint(&["theca", "run", "--memry", "1g", "image"]);
        assert!(text.contains("--memory"), "{text}");
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
