//! `theca attach`: joins a container that was started without, or left by, a terminal.

use anyhow::Context;
use theca_proto::theca::keeper::v1::AttachRequest;

use super::running;
use crate::container::settle::settle_after_end;
use crate::container::{ContainerId, Roots, Shelf};
use crate::output;
use crate::session::{Ended, Manner, Session};
use crate::stdio::{DetachKeys, Fifos, Signals};

/// Flags of `attach`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Do not pass input on
    #[arg(long)]
    no_stdin: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// Pass signals to this command on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// The container's name or id
    container: String,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let (record, keeper, _) = running::find(&shelf, &args.container).await?;
    let settings = &record.settings;
    let stdin = settings.open_stdin && !args.no_stdin;
    let mut signals = Signals::catch()?;
    let prefix = ContainerId::random().context("failed to make up a name for the FIFOs")?.to_string();
    let mut fifos = Fifos::make(
        &shelf.folder(&record.id).stdio(),
        &format!("{}-", &prefix[..16]),
        stdin,
        true,
        !settings.terminal,
    )?;
    let exit = Box::pin(keeper.wait(""));
    let request = AttachRequest {
        stdin: fifos.path(0),
        stdout: fifos.path(1),
        stderr: fifos.path(2),
        ..AttachRequest::default()
    };
    let terminal = keeper.attach(request).await?;
    fifos.unlink();
    // Others may attach after this command, so the container's input outlives the input here, as docker has it.
    let manner =
        Manner { ends_input: false, ..Manner::of(terminal, stdin, &args.detach_keys, args.sig_proxy) };
    let session = Session::open(&keeper, "", &mut fifos, manner)?;
    match session.follow(exit, &mut signals).await {
        Ended::Detached => Ok(0),
        Ended::Left(signal) => Ok(Ended::leave(signal, &format!("container {}", record.id.short()))),
        Ended::Lost { error, rest } => {
            rest.pass_on(&mut signals).await;
            Err(error.into())
        }
        Ended::Exited { status, code, rest, .. } => {
            keeper.failure_behind(status).await.as_deref().map(output::warn);
            drop(keeper);
            let settled = settle_after_end(&shelf, &record.id).await;
            rest.pass_on(&mut signals).await;
            settled.map(|_| code)
        }
    }
}
