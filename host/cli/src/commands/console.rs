//! `theca console`: the guest's kernel log, from the guest while it lives, else as it was kept.

use std::fs;
use std::io::{self, Write};

use anyhow::bail;

use super::running::look_up;
use crate::container::{Roots, Shelf};

/// Flags of `console`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The container's name or id
    container: String,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<u8> {
    let shelf = Shelf::new(Roots::from_env());
    let settled = look_up(&shelf, &args.container).await?;
    let id = &settled.record.id;
    let log = match settled.live {
        Some((keeper, _)) => keeper.kernel_log().await?,
        None => {
            let places = [shelf.roots().sandbox(id).join("console.log"), shelf.folder(id).console()];
            match places.iter().find_map(|path| fs::read(path).ok()) {
                Some(log) => log,
                None => bail!("container {} has not run yet, so its guest has no log", args.container),
            }
        }
    };
    match io::stdout().write_all(&log) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}
