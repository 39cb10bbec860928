//! `theca rm`: removes containers, running ones only when forced.

use std::time::Duration;

use anyhow::{Context, bail};

use super::many;
use crate::container::settle::{self, Settled};
use crate::container::{ContainerId, Held, Lock, RecordError, Roots, Shelf, ShelfError};

/// How long a command that looks at the container, or records its end, may have its lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `rm`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Kill running containers, and do not mind missing ones
    #[arg(short, long)]
    force: bool,
    /// Remove all containers that do not run; with --force all
    #[arg(short, long)]
    all: bool,
    /// Taken as docker takes it: containers have no volumes of their own
    #[arg(short, long, hide = true)]
    volumes: bool,
    /// The containers' names or ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let mut names = args.containers.clone();
    if args.all {
        settle::sweep(&shelf).await;
        for id in shelf.ids()? {
            if args.force || settle::settle(&shelf, &id).await?.is_some_and(|settled| settled.live.is_none())
            {
                names.push(id.to_string());
            }
        }
    }
    many::each(&names, async |name| match shelf.find_id(&name) {
        Ok(id) => remove(&shelf, &id, &name, args.force).await,
        Err(ShelfError::NotFound(_)) if args.force => Ok(()),
        Err(error) => Err(error.into()),
    })
    .await
}

async fn remove(shelf: &Shelf, id: &ContainerId, name: &str, force: bool) -> anyhow::Result<()> {
    let settled = match settle::settle(shelf, id).await {
        Ok(Some(settled)) => settled,
        Ok(None) => return Ok(()),
        // A record that cannot be read has nothing that could be asked; its files can still go.
        Err(error) if force && error.is::<RecordError>() => return Ok(shelf.remove(id, None)?),
        Err(error) => return Err(error),
    };
    if let Settled { live: Some((keeper, _)), .. } = &settled {
        if !force {
            bail!("container {name} is running; stop it first, or use `theca rm -f {name}`");
        }
        keeper.put_to_death(true).await?;
        if settle::settle_after_end(shelf, id).await?.is_none() {
            return Ok(());
        }
    }
    let path = shelf.folder(id).lock();
    match Lock::take_within(&path, PATIENCE).await {
        Ok(Some(lock)) => Ok(Held::new(shelf.clone(), settled.record, lock).remove()?),
        Ok(None) => bail!("container {name} is in use by another theca command; try again when that is done"),
        // Its own command removed it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("failed to lock container {name}")),
    }
}
