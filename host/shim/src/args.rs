//! The command line as containerd writes it: Go's flags, with one dash or two, `-flag value` or `-flag=value`, and the
//! action at the end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

use theca_controller::id::{InvalidId, Namespace, SandboxId};

/// Flags that take a value.
const WITH_VALUE: &[&str] = &["namespace", "address", "publish-binary", "id", "bundle", "socket", "listener"];
/// Flags that do not.
const SWITCHES: &[&str] = &["debug", "v", "info"];

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A flag that is none.
    #[error("unknown flag {0:?}")]
    UnknownFlag(String),
    /// A flag at the end that wants a value.
    #[error("flag -{0} needs a value")]
    NoValue(String),
    /// An argument that is not UTF-8.
    #[error("argument {0:?} is not UTF-8")]
    NotText(OsString),
    /// No action, or one that is none.
    #[error("{0:?} is no action: use start or delete")]
    UnknownAction(String),
    /// A flag that the action needs.
    #[error("flag -{0} is missing")]
    Missing(&'static str),
    /// A name that is none.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// A descriptor that is none.
    #[error("{0:?} is no file descriptor")]
    Listener(String),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a sandbox.
    Start,
    /// Be its keeper.
    Serve {
        /// The inherited socket to serve on.
        listener: RawFd,
    },
    /// Remove what is left of one.
    Delete,
    /// Describe the runtime.
    Info,
    /// Print the version.
    Version,
}

/// A command line that makes sense.
#[derive(Debug)]
pub struct Args {
    /// What to do.
    pub action: Action,
    /// Whether to log decisions too.
    pub debug: bool,
    /// `-bundle`, else the working directory.
    pub bundle: PathBuf,
    sandbox: Option<(Namespace, SandboxId)>,
}

impl Args {
    /// Parses the arguments after the program's name.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, ArgsError> {
        let mut flags: HashMap<String, String> = HashMap::new();
        let mut switches = Vec::new();
        let mut action = None;
        let mut arguments = arguments.map(|argument| argument.into_string().map_err(ArgsError::NotText));
        while let Some(argument) = arguments.next().transpose()? {
            let Some(flag) = argument.strip_prefix('-') else {
                action = Some(argument);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if SWITCHES.contains(&name) {
                switches.push(name.to_owned());
            } else if WITH_VALUE.contains(&name) {
                let value = match value {
                    Some(value) => value,
                    None => {
                        arguments.next().transpose()?.ok_or_else(|| ArgsError::NoValue(name.to_owned()))?
                    }
                };
                flags.insert(name.to_owned(), value);
            } else {
                return Err(ArgsError::UnknownFlag(argument));
            }
        }
        let switched = |name: &str| switches.iter().any(|switch| switch == name);
        let action = match action.as_deref().unwrap_or_default() {
            _ if switched("v") => Action::Version,
            _ if switched("info") => Action::Info,
            "start" => Action::Start,
            "serve" => Action::Serve { listener: listener(&flags)? },
            "delete" => Action::Delete,
            other => return Err(ArgsError::UnknownAction(other.to_owned())),
        };
        let sandbox = match (flags.get("namespace"), flags.get("id")) {
            _ if matches!(action, Action::Info | Action::Version) => None,
            (None, _) => return Err(ArgsError::Missing("namespace")),
            (_, None) => return Err(ArgsError::Missing("id")),
            (Some(namespace), Some(id)) => Some((namespace.parse()?, id.parse()?)),
        };
        let bundle = match flags.remove("bundle") {
            Some(bundle) => bundle.into(),
            None => std::env::current_dir().unwrap_or_default(),
        };
        Ok(Self { action, debug: switched("debug"), bundle, sandbox })
    }

    /// Namespace and id of the sandbox; of those actions that have one.
    pub fn sandbox(&self) -> Result<&(Namespace, SandboxId), ArgsError> {
        self.sandbox.as_ref().ok_or(ArgsError::Missing("id"))
    }
}

fn listener(flags: &HashMap<String, String>) -> Result<RawFd, ArgsError> {
    let number = flags.get("listener").ok_or(ArgsError::Missing("listener"))?;
    number.parse().map_err(|_| ArgsError::Listener(number.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn containerds_call_is_understood() {
        let line = "-namespace k8s.io -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd \
                    -id web -debug start";
        let args = parse(line).unwrap();
        assert_eq!((args.action, args.debug), (Action::Start, true));
        let (namespace, id) = args.sandbox().unwrap();
        assert_eq!((namespace.as_str(), id.as_str()), ("k8s.io", "web"));
    }

    #[test]
    fn both_ways_to_write_a_flag_are_the_same() {
        let args = parse("--namespace=default --id=web -bundle /b delete").unwrap();
        assert_eq!((args.action, args.bundle), (Action::Delete, PathBuf::from("/b")));
    }

    #[test]
    fn questions_about_the_runtime_need_no_sandbox() {
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, expected) in [
            ("-namespace default start", "flag -id is missing"),
            ("-id web start", "flag -namespace is missing"),
            ("-id web -namespace default", "\"\" is no action"),
            ("-id web -namespace default run", "\"run\" is no action"),
            ("-id ../web -namespace default start", "sandbox id \"../web\" is not valid"),
            ("-colour red start", "unknown flag \"-colour\""),
            ("start -id", "flag -id needs a value"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }
}
