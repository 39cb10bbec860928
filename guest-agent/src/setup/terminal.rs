//! A process's terminal, out of the container's own devpts: the agent gets one end, the process the other.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::Result;
use super::inside::{Root, by_fd};
use super::job::TerminalSize;
use crate::process::handshake::Attempt;
use crate::sys::tty;

/// Both ends.
pub struct Terminal {
    master: OwnedFd,
    peer: OwnedFd,
}

/// Opens the multiplexer of a running container. What is there may be the container's doing: it must not block, and
/// whether it is a terminal shows in [`open`].
pub fn multiplexer(path: &str) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .attempt(|| format!("open {path}; a terminal needs a devpts mount"))
}

/// Makes a terminal.
pub fn open(multiplexer: &File, size: TerminalSize) -> Result<Terminal> {
    let action = || "make a terminal".to_owned();
    let master = multiplexer.as_fd().try_clone_to_owned().attempt(action)?;
    tty::unlock(master.as_fd()).attempt(action)?;
    let peer = tty::open_peer(master.as_fd()).attempt(action)?;
    if size != TerminalSize::default() {
        tty::resize(master.as_fd(), size.columns, size.rows).attempt(action)?;
    }
    Ok(Terminal { master, peer })
}

/// Lets the container have its terminal as `/dev/console` too.
pub fn bind_console(terminal: &Terminal, root: &Root) -> Result<()> {
    let action = || "bind the terminal to /dev/console".to_owned();
    let console = root.make_file(Path::new("/dev/console"))?;
    let (source, target) = (by_fd(terminal.peer.as_fd()), by_fd(console.as_fd()));
    mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>).attempt(action)
}

/// Makes the terminal the caller's own, on descriptors 0 to 2 too, and gives back the agent's end.
pub fn take(terminal: Terminal) -> Result<OwnedFd> {
    let action = || "take the terminal".to_owned();
    tty::make_controlling(terminal.peer.as_fd()).attempt(action)?;
    dup2_stdin(&terminal.peer).attempt(action)?;
    dup2_stdout(&terminal.peer).attempt(action)?;
    dup2_stderr(&terminal.peer).attempt(action)?;
    Ok(terminal.master)
}
