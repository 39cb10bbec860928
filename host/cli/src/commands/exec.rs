//! `theca exec`: a further process in a running container.

use anyhow::{Context, bail};
use oci_spec::runtime::{Process, Spec};
use prost::Message;
use prost_types::Any;
use theca_proto::containerd::task::v3::ExecProcessRequest;
use theca_proto::containerd::v1::types::Status;
use theca_proto::theca::keeper::v1::ExecOptions;
use theca_proto::type_url;

use super::running;
use crate::container::{ContainerDir, ContainerId, Roots, Shelf};
use crate::error::StartError;
use crate::keeper::{Keeper, KeeperError};
use crate::launch;
use crate::output;
use crate::session::{Ended, Manner, Session};
use crate::spec::{ExecWish, environment, exec_process};
use crate::stdio::{DetachKeys, Fifos, Signals, stdin_is_terminal, window_size};

/// Flags of `exec`.
#[derive(clap::Args, Debug)]
#[command(override_usage = "theca exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub struct Args {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// Start in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the process running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// Set a variable; a bare name passes this shell's value on
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Working folder
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User of the container's /etc/passwd, or a number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Give the process all capabilities
    #[arg(long)]
    privileged: bool,
    /// The container's name or id, then the command. The usage line tells.
    #[arg(required = true, value_name = "CONTAINER", trailing_var_arg = true, hide = true)]
    container_and_command: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let Some((container, command)) =
        args.container_and_command.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        bail!("no command: name the container, then what to run in it");
    };
    if args.tty && args.interactive && !args.detach && !stdin_is_terminal() {
        bail!("the input device is not a terminal; leave out -t, or -i");
    }
    let shelf = Shelf::new(Roots::from_env());
    let (record, keeper, status) = running::find(&shelf, container).await?;
    if status != Status::Running {
        bail!("container {container} is paused; `theca resume {container}` lets it go on");
    }
    let folder = shelf.folder(&record.id);
    let process = process(&args, command, &folder)?;
    let exec_id = ContainerId::random().context("failed to make up an id for the process")?.to_string();
    let mut signals = Signals::catch()?;

    let wants_output = !args.detach;
    let prefix = format!("{}-", &exec_id[..16]);
    let mut fifos = Fifos::make(
        &folder.stdio(),
        &prefix,
        args.interactive && !args.detach,
        wants_output,
        wants_output && !args.tty,
    )?;
    let spec = serde_json::to_vec(&process).context("failed to write the process as JSON")?;
    // In the background, left or killed, this command is not there to see the end.
    let options = ExecOptions { process: spec.into(), output_is_read: true, forget: true };
    let request = ExecProcessRequest {
        exec_id: exec_id.clone(),
        terminal: args.tty,
        stdin: fifos.path(0),
        stdout: fifos.path(1),
        stderr: fifos.path(2),
        spec: Some(Any { type_url: type_url::EXEC_OPTIONS.to_owned(), value: options.encode_to_vec() }),
        ..ExecProcessRequest::default()
    };
    keeper.exec(request).await.map_err(StartError::of_process)?;
    if args.detach {
        return start_detached(&keeper, &exec_id).await;
    }
    let manner = Manner::of(args.tty, args.interactive, &args.detach_keys, true);
    let exit = match launch::start(&keeper, &exec_id).await {
        Ok(exit) => exit,
        Err(error) => {
            forget(&keeper, &exec_id).await;
            return Err(StartError::of_process(error).into());
        }
    };
    let session = Session::open(&keeper, &exec_id, &mut fifos, manner)?;
    fifos.unlink();
    match session.follow(exit, &mut signals).await {
        Ended::Detached => Ok(0),
        Ended::Left(signal) => Ok(Ended::leave(signal, "the process")),
        Ended::Lost { error, rest } => {
            rest.pass_on(&mut signals).await;
            Err(error.into())
        }
        Ended::Exited { status, code, rest, .. } => {
            keeper.failure_behind(status).await.as_deref().map(output::warn);
            forget(&keeper, &exec_id).await;
            rest.pass_on(&mut signals).await;
            Ok(code)
        }
    }
}

/// The process as the container's own configuration and the flags make it.
fn process(args: &Args, command: &[String], folder: &ContainerDir) -> anyhow::Result<Process> {
    let mut env = Vec::new();
    for file in &args.env_file {
        env.extend(environment::from_file(file)?);
    }
    for variable in &args.env {
        env.extend(environment::from_flag(variable)?);
    }
    let wish = ExecWish {
        command: command.to_vec(),
        env,
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        terminal: args.tty.then(window_size),
        privileged: args.privileged,
    };
    let path = folder.bundle().join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let spec: Spec =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(exec_process(&spec.process().clone().unwrap_or_default(), &wish)?)
}

async fn start_detached(keeper: &Keeper, exec_id: &str) -> anyhow::Result<u8> {
    match keeper.start(exec_id).await {
        Ok(_) => Ok(0),
        Err(error) => {
            forget(keeper, exec_id).await;
            Err(StartError::of_process(error).into())
        }
    }
}

/// The container may have ended with the process, and the keeper with it.
async fn forget(keeper: &Keeper, exec_id: &str) {
    match keeper.delete(exec_id).await {
        Ok(()) => {}
        Err(error) if error.is_gone() || error.is_not_found() => {}
        Err(
            error @ (KeeperError::Refused { .. }
            | KeeperError::Unreachable { .. }
            | KeeperError::Late { .. }
            | KeeperError::Gone { .. }),
        ) => {
            output::warn(&format!("the keeper did not forget the process: {error}"));
        }
    }
}
