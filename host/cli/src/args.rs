//! The command line: a table of verbs, each with its flags and what it does.
//!
//! The flags of a verb are only defined when it is the one asked for (or when completions are made): defining all of them
//! costs more than a short command's own work.

use std::future::Future;
use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::commands::{
    attach, check, completion, console, create, exec, image, inspect, kill, logs, pause, ps, reap, resume,
    rm, run, sandbox, start, stop, version, wait,
};

/// A verb's work, ready to be awaited for its exit code.
pub type Work = Pin<Box<dyn Future<Output = anyhow::Result<u8>>>>;

/// Turns what was matched into work.
type Read = dyn Fn(&ArgMatches) -> Result<Work, clap::Error>;

struct Verb {
    command: Command,
    read: Box<Read>,
}

/// A verb whose flags are `A` and whose work is `run`.
fn verb<A, Running>(name: &'static str, about: &'static str, run: fn(A) -> Running) -> Verb
where
    A: Args + 'static,
    Running: Future<Output = anyhow::Result<u8>> + 'static,
{
    let read = move |matches: &ArgMatches| -> Result<Work, clap::Error> {
        let args = A::from_arg_matches(matches)?;
        Ok(Box::pin(run(args)))
    };
    Verb { command: Command::new(name).about(about).defer(add_flags::<A>), read: Box::new(read) }
}

/// What a verb is about is said where it is named; the comment on its flags is for readers of the code.
fn add_flags<A: Args>(command: Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    A::augment_args(command).about(about)
}

impl Verb {
    fn also(mut self, alias: &'static str) -> Self {
        self.command = self.command.visible_alias(alias);
        self
    }

    fn hidden(mut self) -> Self {
        self.command = self.command.hide(true);
        self
    }
}

fn verbs() -> Vec<Verb> {
    vec![
        verb("run", "Make a container from an image, a bundle or a folder, and run it", run::run),
        verb("create", "Make a container without starting it", create::run),
        verb("start", "Start containers that are not running", start::run),
        verb("exec", "Run a further command in a running container", exec::run),
        verb("attach", "Join the input and output of a running container", attach::run),
        verb("logs", "Show what a container has written", logs::run),
        verb("ps", "List containers", ps::run).also("ls"),
        verb("inspect", "Tell all about containers, as JSON", inspect::run),
        verb("kill", "Send a signal to containers", kill::run),
        verb("stop", "Stop containers: ask, wait, then kill", stop::run),
        verb("pause", "Freeze every process of containers", pause::run),
        verb("resume", "Let paused containers go on", resume::run).also("unpause"),
        verb("wait", "Wait until containers end, and print their exit statuses", wait::run),
        verb("rm", "Remove containers", rm::run),
        verb("image", "Manage images", image::run),
        verb("sandbox", "Manage sandboxes of several containers; thecad runs them", sandbox::run),
        verb("console", "Show the kernel log of a container's guest", console::run),
        verb("check", "Tell whether this machine can run microVMs, and what to do if not", check::run),
        verb("version", "Tell the versions of Theca's parts", version::run),
        verb("completion", "Print a completion script for a shell", completion::run),
        verb("reap", "Tidy up after a container whose starter is gone; keepers call it", reap::run).hidden(),
    ]
}

/// What the environment can change.
const VARIABLES: &str = "\
Environment:
  THECA_ROOT            where images and containers are kept [default: /var/lib/theca]
  THECA_STATE           where running sandboxes have their sockets and logs [default: /run/theca]
  THECA_KEEPER          the keeper's program [default: beside theca, or on the PATH]
  THECA_KERNEL          the guest kernel [default: vmlinux in /usr/lib/theca or ../lib/theca]
  THECA_INITRD          the guest's initrd [default: initrd.cpio, likewise]
  THECA_SKIP_CHECKS     set: run does not ask first whether KVM here can boot Linux, nor for as many CPUs as wanted
  THECA_REGISTRY_CREDS  user:password for `image pull`, as --creds
  DOCKER_CONFIG         the folder whose config.json has logins to registries [default: ~/.docker]";

/// The definition of the whole command line.
pub fn command() -> Command {
    definition(&verbs())
}

fn definition(verbs: &[Verb]) -> Command {
    Command::new("theca")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Run containers, each in a microVM of its own")
        .after_help(VARIABLES)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verbs.iter().map(|verb| verb.command.clone()))
}

/// Reads a command line: what is to be done.
pub fn parse<I, T>(line: I) -> Result<Work, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let verbs = verbs();
    let mut definition = definition(&verbs);
    let matches = definition.try_get_matches_from_mut(line)?;
    let asked = matches.subcommand().and_then(|(name, flags)| {
        let verb = verbs.iter().find(|verb| verb.command.get_name() == name)?;
        Some((verb, flags))
    });
    match asked {
        Some((verb, flags)) => (verb.read)(flags),
        None => Err(definition.error(clap::error::ErrorKind::MissingSubcommand, "no command was given")),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn kind(line: &[&str]) -> Option<ErrorKind> {
        parse(line).err().map(|error| error.kind())
    }

    #[test]
    fn the_definitions_agree_with_each_other() {
        let mut command = command();
        command.build();
        command.debug_assert();
    }

    #[test]
    fn help_says_what_a_command_is_about_and_what_the_environment_changes() {
        let help = |line: &[&str]| parse(line).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            help(&["theca", "exec", "--help"]).starts_with("Run a further command in a running container")
        );
        assert!(help(&["theca", "image", "--help"]).starts_with("Manage images"));
        let run = help(&["theca", "run", "--help"]);
        assert!(run.contains("Usage: theca run [OPTIONS] IMAGE [COMMAND] [ARG...]"), "{run}");
        assert!(help(&["theca", "--help"]).contains("THECA_ROOT"));
    }

    #[test]
    fn a_host_name_may_be_given_in_short_as_docker_has_it() {
        for verb in ["run", "create"] {
            assert_eq!(kind(&["theca", verb, "-h", "box", "image"]), None);
            assert_eq!(kind(&["theca", verb, "--help"]), Some(ErrorKind::DisplayHelp));
        }
    }

    #[test]
    fn verbs_are_known_by_their_other_names() {
        assert_eq!(kind(&["theca", "unpause", "web"]), None);
        assert_eq!(kind(&["theca", "ls", "-a"]), None);
        assert_eq!(kind(&["theca", "image", "load", "x.tar"]), None);
        assert_eq!(kind(&["theca", "fly"]), Some(ErrorKind::InvalidSubcommand));
        assert_eq!(kind(&["theca"]), Some(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand));
    }
}
