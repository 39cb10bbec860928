//! Starting programs that have nothing to do with the keeper's own session.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes `command` start in a session of its own: no terminal's signal reaches it.
pub fn detach(command: &mut Command) -> &mut Command {
    let enter = || match nix::unistd::setsid() {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    // SAFETY: between fork and exec only async-signal-safe calls may be made; setsid is one, and converting its error
    // number allocates nothing.
    unsafe { command.pre_exec(enter) }
}
