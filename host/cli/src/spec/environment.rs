//! Environment variables: from the image, from files, from the command line; and docker's rule for a bare name.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Where programs are looked for when the image does not say.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a variable or file of variables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The file cannot be read.
    #[error("failed to read the variables in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name is empty or has spaces.
    #[error("{place}: {text:?} is no variable: write NAME=VALUE, or NAME to pass this shell's value on")]
    Malformed {
        /// `--env`, or a file and line.
        place: String,
        /// What was found.
        text: String,
    },
}

/// Reads an `--env-file`: a variable on each line, `#` begins a comment line, values are taken as they stand.
pub fn from_file(path: &Path) -> Result<Vec<String>, EnvironmentError> {
    let text = fs::read_to_string(path)
        .map_err(|source| EnvironmentError::Read { path: path.to_owned(), source })?;
    parse_file(&text, &path.display().to_string())
}

fn parse_file(text: &str, name: &str) -> Result<Vec<String>, EnvironmentError> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let variables = lines
        .map(|(index, line)| (index + 1, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| variable(line, &format!("{name} line {number}")));
    Ok(variables.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Reads one `--env`. A bare name takes this process's value; `None` if it has none.
pub fn from_flag(text: &str) -> Result<Option<String>, EnvironmentError> {
    variable(text, "--env")
}

fn variable(text: &str, place: &str) -> Result<Option<String>, EnvironmentError> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() || name.contains(char::is_whitespace) || text.contains('\0') {
        return Err(EnvironmentError::Malformed { place: place.to_owned(), text: text.to_owned() });
    }
    if text.contains('=') {
        return Ok(Some(text.to_owned()));
    }
    Ok(env::var(name).ok().map(|value| format!("{name}={value}")))
}

/// Later variables replace earlier ones of the same name, in the earlier's place.
pub fn merge(layers: impl IntoIterator<Item = String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut merged: Vec<String> = Vec::new();
    for variable in layers {
        match merged.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => merged.push(variable),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_variable_on_each_line() {
        let text =
            "\u{feff}# comment\n\n  A=1\nB=two words # kept\nC=\"quotes stay\"\nD=\nTHECA_NOT_SET_ANYWHERE\n";
        assert_eq!(parse_file(text, "f").unwrap(), ["A=1", "B=two words # kept", "C=\"quotes stay\"", "D="]);
    }

    #[test]
    fn a_bad_line_is_told_by_number() {
        for bad in ["=x", "two words=x", "two words"] {
            let error = parse_file(&format!("A=1\n{bad}"), "vars").unwrap_err();
            assert!(error.to_string().starts_with("vars line 2: "), "{error}");
        }
    }

    #[test]
    fn a_bare_name_passes_this_process_s_value_on() {
        let path = format!("PATH={}", env::var("PATH").unwrap());
        assert_eq!(from_flag("PATH").unwrap(), Some(path));
        assert_eq!(from_flag("THECA_NOT_SET_ANYWHERE").unwrap(), None);
        assert_eq!(from_flag("A=b=c").unwrap(), Some("A=b=c".into()));
    }

    #[test]
    fn the_last_of_a_name_wins_in_the_place_of_the_first() {
        let layers = ["PATH=/bin", "A=1", "B=2", "A=3"].map(str::to_owned);
        assert_eq!(merge(layers), ["PATH=/bin", "A=3", "B=2"]);
    }
}
