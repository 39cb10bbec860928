//! `theca run`: make, start, and unless detached stay until the end.
//!
//! ```text
//!  plan ─▶ folder, record, disk ─▶ spawn keeper ┬▶ (VM boots)
//!                                               └▶ config.json, FIFOs ─▶ Create ─▶ Wait asked ─▶ Start ─▶ session
//! ```
//!
//! Until Start has answered, any failure or signal undoes all of it.

use anyhow::bail;

use crate::container::settle::{finish, sweep};
use crate::container::{Held, Phase, Roots, Shelf};
use crate::error::{FAILED, StartError};
use crate::flags::{ContainerFlags, usage};
use crate::keeper::Keeper;
use crate::launch::{self, Launch};
use crate::output::{self, time::now_ms};
use crate::plan::{Made, Plan};
use crate::session::{Ended, Manner, Session};
use crate::stdio::{DetachKeys, Fifos, Signals, stdin_is_terminal};

/// Flags of `run`.
#[derive(clap::Args, Debug)]
#[command(override_usage = usage!("run"))]
pub struct Args {
    /// Start in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// Pass signals to this command on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    container: ContainerFlags,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let plan = Plan::read(args.container, &shelf).await?;
    let (terminal, stdin) = plan.terminal_and_stdin();
    if terminal && stdin && !args.detach && !stdin_is_terminal() {
        bail!("the input device is not a terminal; leave out -t, or -i");
    }
    let mut signals = Signals::catch()?;
    let made = plan.make(&shelf, Phase::Starting)?;
    let code = if args.detach {
        detached(&plan, made, &mut signals).await
    } else {
        let manner = Manner {
            kills_in_the_end: made.held.record.settings.ends_with_its_command(),
            ..Manner::of(terminal, stdin, &args.detach_keys, args.sig_proxy)
        };
        attached(&plan, made, &mut signals, manner).await
    };
    sweep(&shelf).await;
    code
}

async fn detached(plan: &Plan, made: Made, signals: &mut Signals) -> anyhow::Result<u8> {
    let mut launch = Launch::begin(&made.held, false)?;
    let started = tokio::select! {
        started = start_detached(plan, &made.held, &mut launch) => started,
        signal = signals.next_end() => Err(StartError::Interrupted(signal).into()),
    };
    if let Err(error) = started {
        launch.abandon().await;
        return Err(error);
    }
    let mut held = made.keep(false);
    held.enter(Phase::Started { at_ms: now_ms() })?;
    output::line(held.record.id.as_str())?;
    Ok(0)
}

async fn start_detached(plan: &Plan, held: &Held, launch: &mut Launch) -> anyhow::Result<()> {
    plan.write_config(held)?;
    let fifos = Fifos::make(&held.folder().stdio(), "", held.record.settings.open_stdin, false, false)?;
    let keeper = launch.create(held, &fifos, true).await?;
    keeper.start("").await.map_err(StartError::from)?;
    Ok(())
}

async fn attached(plan: &Plan, made: Made, signals: &mut Signals, manner: Manner) -> anyhow::Result<u8> {
    let mut launch = Launch::begin(&made.held, true)?;
    let prepared = tokio::select! {
        prepared = prepare(plan, &made.held, &mut launch) => prepared,
        signal = signals.next_end() => Err(StartError::Interrupted(signal).into()),
    };
    let (keeper, mut fifos) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            launch.abandon().await;
            return Err(error);
        }
    };
    let started = tokio::select! {
        started = launch::start(&keeper, "") => started.map_err(anyhow::Error::from),
        signal = signals.next_end() => Err(StartError::Interrupted(signal).into()),
    };
    let joined = started.and_then(|exit| Ok((exit, Session::open(&keeper, "", &mut fifos, manner)?)));
    let (exit, session) = match joined {
        Ok(joined) => joined,
        Err(error) => {
            launch.abandon().await;
            return Err(error);
        }
    };
    fifos.unlink();
    let auto_remove = made.held.record.settings.auto_remove;
    let mut held = made.keep(auto_remove);
    held.enter(Phase::Started { at_ms: now_ms() })?;
    let ended = session.follow(exit, signals).await;
    conclude(held, &keeper, ended, signals).await
}

async fn prepare(plan: &Plan, held: &Held, launch: &mut Launch) -> anyhow::Result<(Keeper, Fifos)> {
    plan.write_config(held)?;
    let settings = &held.record.settings;
    let fifos = Fifos::make(&held.folder().stdio(), "", settings.open_stdin, true, !settings.terminal)?;
    let keeper = launch.create(held, &fifos, !settings.auto_remove).await?;
    Ok((keeper, fifos))
}

/// What follows a session with a container's init: records how it ended, and the exit code that repeats it.
pub async fn conclude(
    mut held: Held,
    keeper: &Keeper,
    ended: Ended,
    signals: &mut Signals,
) -> anyhow::Result<u8> {
    match ended {
        Ended::Detached => {
            held.removed_on_drop(false);
            Ok(0)
        }
        Ended::Left(signal) => {
            held.removed_on_drop(false);
            Ok(Ended::leave(signal, &format!("container {}", held.record.id.short())))
        }
        Ended::Exited { status, code, at_ms, rest } => {
            let failure = keeper.failure_behind(status).await;
            failure.as_deref().map(output::warn);
            // Before the rest: a container that has ended is not in use until somebody has read what it wrote.
            let finished = finish(held, Some(keeper), status, at_ms, failure).await;
            rest.pass_on(signals).await;
            finished.map(|_| code)
        }
        Ended::Lost { error, rest } => {
            let error = anyhow::Error::from(error);
            let finished = finish(held, None, u32::from(FAILED), now_ms(), Some(format!("{error:#}"))).await;
            rest.pass_on(signals).await;
            finished.and(Err(error))
        }
    }
}
