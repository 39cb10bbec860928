//! `theca start`: a new VM for a container that is there, on the disk that it left.

use std::time::Duration;

use anyhow::{Context, bail};
use theca_proto::containerd::v1::types::Status;

use super::many;
use super::run::conclude;
use super::running::look_up;
use crate::container::settle::finish;
use crate::container::{Held, Lock, Phase, Roots, Shelf, Source};
use crate::error::{FAILED, StartError};
use crate::keeper::Keeper;
use crate::launch::{self, Launch};
use crate::output::time::now_ms;
use crate::session::{Manner, Session};
use crate::stdio::{DetachKeys, Fifos, Signals};

/// How long a command that looks at the container may have its lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// Flags of `start`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show the container's output and pass signals on
    #[arg(short, long)]
    attach: bool,
    /// Pass this command's input on; implies --attach
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    detach_keys: DetachKeys,
    /// The containers' names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let mut signals = Signals::catch()?;
    if !args.attach && !args.interactive {
        return many::each(&args.containers, async |name| detached(&shelf, &name, &mut signals).await).await;
    }
    let [name] = args.containers.as_slice() else {
        bail!("only one container can be attached to; start the others first")
    };
    attached(&shelf, name, &args, &mut signals).await
}

/// Takes the lock of a container that does not run.
async fn hold(shelf: &Shelf, name: &str) -> anyhow::Result<Held> {
    let settled = look_up(shelf, name).await?;
    if settled.live.is_some() {
        bail!("container {name} is running already; `theca attach {name}` joins it");
    }
    let id = settled.record.id;
    let lock = Lock::take_within(&shelf.folder(&id).lock(), PATIENCE)
        .await
        .with_context(|| format!("failed to lock container {name}"))?;
    let Some(lock) = lock else {
        bail!("container {name} is in use by another theca command; try again when that is done")
    };
    let record = shelf.find(id.as_str())?;
    if let Source::Image { reference, disk, .. } = &record.source
        && !disk.exists()
    {
        bail!(
            "the disk of image {reference} that container {name} was made from is gone; get it again with `theca image pull \
             {reference}` or `theca image import`, and make the container anew"
        );
    }
    crate::host::admit(
        record.settings.vcpus,
        record.settings.memory_mib << 20,
        record.settings.kernel.as_deref(),
    )?;
    Ok(Held::new(shelf.clone(), record, lock))
}

/// One that runs already is as wanted.
async fn detached(shelf: &Shelf, name: &str, signals: &mut Signals) -> anyhow::Result<()> {
    match look_up(shelf, name).await?.live {
        Some((_, Status::Running)) => return Ok(()),
        Some((_, Status::Paused)) => bail!("container {name} is paused; `theca resume {name}` lets it go on"),
        _ => {}
    }
    let mut held = hold(shelf, name).await?;
    let stdin = held.record.settings.open_stdin;
    let (keeper, _) = bring_up(&mut held, signals, stdin, false).await?;
    match keeper.start("").await {
        Ok(_) => Ok(()),
        Err(error) => fail(held, &keeper, error.into()).await,
    }
}

async fn attached(shelf: &Shelf, name: &str, args: &Args, signals: &mut Signals) -> anyhow::Result<u8> {
    let mut held = hold(shelf, name).await?;
    let (terminal, open_stdin) = (held.record.settings.terminal, held.record.settings.open_stdin);
    let stdin = args.interactive && open_stdin;
    let (keeper, mut fifos) = bring_up(&mut held, signals, stdin, true).await?;
    let manner = Manner {
        kills_in_the_end: held.record.settings.ends_with_its_command(),
        ..Manner::of(terminal, stdin, &args.detach_keys, true)
    };
    let exit = match launch::start(&keeper, "").await {
        Ok(exit) => exit,
        Err(error) => return fail(held, &keeper, error).await.map(|()| FAILED),
    };
    let session = Session::open(&keeper, "", &mut fifos, manner)?;
    fifos.unlink();
    let ended = session.follow(exit, signals).await;
    conclude(held, &keeper, ended, signals).await
}

/// Spawns the keeper and creates the task; the record says so from before until it is known to have failed.
async fn bring_up(
    held: &mut Held,
    signals: &mut Signals,
    stdin: bool,
    attached: bool,
) -> anyhow::Result<(Keeper, Fifos)> {
    let before = held.record.phase.clone();
    held.enter(Phase::Started { at_ms: now_ms() })?;
    let outcome = async {
        let mut launch = Launch::begin(held, attached)?;
        let created = tokio::select! {
            created = create(held, &mut launch, stdin, attached) => created,
            signal = signals.next_end() => Err(StartError::Interrupted(signal).into()),
        };
        if created.is_err() {
            launch.abandon().await;
        }
        created
    }
    .await;
    if outcome.is_err() {
        held.enter(before)?;
    }
    outcome
}

async fn create(
    held: &Held,
    launch: &mut Launch,
    stdin: bool,
    attached: bool,
) -> anyhow::Result<(Keeper, Fifos)> {
    let terminal = held.record.settings.terminal;
    let fifos = Fifos::make(&held.folder().stdio(), "", stdin, attached, attached && !terminal)?;
    let keeper = launch.create(held, &fifos, true).await?;
    Ok((keeper, fifos))
}

/// A container whose command does not start stays, as docker leaves it.
async fn fail(held: Held, keeper: &Keeper, error: StartError) -> anyhow::Result<()> {
    let error = anyhow::Error::from(error);
    let code = u32::from(crate::error::exit_code(&error));
    finish(held, Some(keeper), code, now_ms(), Some(format!("{error:#}"))).await?;
    Err(error)
}
