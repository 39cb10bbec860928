//! `start`: everything that must be there before a caller may connect, and no more. The keeper boots the VM while the
//! caller is still reading its address.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use theca_api::convert;
use theca_controller::run_dir::{RunDir, RunDirError, state_root};
use theca_controller::sandbox::residue;
use theca_controller::sys::inherit;

use crate::args::Args;

/// Longest options: what a pipe holds, so that handing them on never waits.
const MAX_OPTIONS: u64 = 64 * 1024;

/// Begins a sandbox and prints where its keeper is reached.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let options = read_options()?;
    convert::options::sandbox(&options).context("the sandbox's options are not usable")?;
    let (namespace, id) = args.sandbox()?;
    let folder = RunDir::new(&state_root(), namespace, id);
    create(&folder)?;
    if let Err(error) = start_keeper(args, &folder, &options) {
        folder.remove().context("the folder of a sandbox that was not started stays")?;
        return Err(error);
    }
    let socket = folder.keeper_socket();
    let address = serde_json::json!({
        "version": 3,
        "address": format!("unix://{}", socket.display()),
        "protocol": "ttrpc",
    });
    io::stdout().write_all(address.to_string().as_bytes()).context("failed to print the keeper's address")
}

/// Options come as an encoded `google.protobuf.Any` on standard input, or not at all.
fn read_options() -> anyhow::Result<Vec<u8>> {
    let stdin = io::stdin();
    let mut options = Vec::new();
    if !stdin.is_terminal() {
        stdin
            .lock()
            .take(MAX_OPTIONS + 1)
            .read_to_end(&mut options)
            .context("failed to read the sandbox's options")?;
    }
    if options.len() as u64 > MAX_OPTIONS {
        bail!("the sandbox's options have more than {MAX_OPTIONS} bytes");
    }
    Ok(options)
}

/// Makes the folder. What a killed keeper of the same name has left is removed first.
fn create(folder: &RunDir) -> anyhow::Result<()> {
    match folder.create() {
        Err(RunDirError::Exists(_)) if residue::is_served(folder) => {
            bail!("the sandbox {} runs already", folder.path().display());
        }
        Err(RunDirError::Exists(_)) => {
            if let Some(error) = residue::remove(folder).into_iter().next() {
                return Err(error)
                    .context("failed to remove what is left of an earlier sandbox of this name");
            }
            Ok(folder.create()?)
        }
        other => Ok(other?),
    }
}

/// Starts this program again as `serve`, with the listening socket. The caller's end of life, and whatever descriptors it
/// had, are nothing to the keeper.
fn start_keeper(args: &Args, folder: &RunDir, options: &[u8]) -> anyhow::Result<()> {
    let listener = folder.listen(&folder.keeper_socket())?;
    let number = inherit::pass(&listener).context("failed to pass the socket on")?;
    let (reader, mut writer) = io::pipe().context("failed to make a pipe")?;
    writer.write_all(options).context("failed to pass the options on")?;
    drop(writer);
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.keeper_log());
    let log = log.context("failed to open the keeper's log")?;
    let (namespace, id) = args.sandbox()?;
    let mut command = Command::new(std::env::current_exe().context("failed to find this program")?);
    command.args(["-namespace", namespace.as_str(), "-id", id.as_str()]);
    command.arg("-bundle").arg(&args.bundle).args(["-listener", &number.to_string()]);
    if args.debug {
        command.arg("-debug");
    }
    command.arg("serve").current_dir("/").stdin(reader).stdout(Stdio::null()).stderr(log);
    command.spawn().context("failed to start the keeper")?;
    Ok(())
}
