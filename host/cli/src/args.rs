//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    attach, check, completion, console, create, exec, image, inspect, kill, logs, pause, ps, reap, resume,
    rm, run, start, stop, version, wait,
};

/// Run containers, each in a microVM of its own
#[derive(Debug, Parser)]
#[command(name = "theca", version, disable_help_subcommand = true, subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One variant for each file in `commands/`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a container from an image, a bundle or a folder, and run it
    #[command(disable_help_flag = true)]
    Run(run::Args),
    /// Make a container without starting it
    #[command(disable_help_flag = true)]
    Create(create::Args),
    /// Start containers that are not running
    Start(start::Args),
    /// Run a further command in a running container
    Exec(exec::Args),
    /// Join the input and output of a running container
    Attach(attach::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// List containers
    #[command(visible_alias = "ls", alias = "list")]
    Ps(ps::Args),
    /// Tell all about containers, as JSON
    Inspect(inspect::Args),
    /// Send a signal to containers
    Kill(kill::Args),
    /// Stop containers: ask, wait, then kill
    Stop(stop::Args),
    /// Freeze every process of containers
    Pause(pause::Args),
    /// Let paused containers go on
    #[command(visible_alias = "unpause")]
    Resume(resume::Args),
    /// Wait until containers end, and print their exit statuses
    Wait(wait::Args),
    /// Remove containers
    Rm(rm::Args),
    /// Manage images
    #[command(subcommand)]
    Image(image::Command),
    /// Show the kernel log of a container's guest
    Console(console::Args),
    /// Tell whether this machine can run microVMs, and what to do if not
    Check(check::Args),
    /// Tell the versions of Theca's parts
    Version(version::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Tidy up after a container whose starter is gone; keepers call it
    #[command(hide = true)]
    Reap(reap::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_host_name_may_be_given_in_short_as_docker_has_it() {
        for line in [&["theca", "run", "-h", "box", "image"][..], &["theca", "create", "-h", "box", "image"]]
        {
            Cli::try_parse_from(line).unwrap();
        }
        let help = Cli::try_parse_from(["theca", "run", "--help"]).unwrap_err();
        assert_eq!(help.kind(), clap::error::ErrorKind::DisplayHelp);
    }
}
