//! This command's own terminal: raw while it is a window to another one, and always as it was afterwards.

use std::io::{self, IsTerminal};
use std::sync::Mutex;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::sys;

/// How the terminal was. Kept where a panic hook can reach it: a release build aborts on panic and drops nothing.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Standard input's terminal in raw mode: no echo, no line editing, no signals from keys. Restored on drop.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes standard input raw.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        if let Ok(mut kept) = BEFORE.lock() {
            *kept = Some(before);
        }
        let terminal = Self(());
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back, if it was made raw.
pub fn restore() {
    if let Ok(mut kept) = BEFORE.try_lock()
        && let Some(before) = kept.take()
    {
        // Not after what is still to be shown: that may be held up for ever. A terminal that has hung up needs no restoring.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
    }
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Columns and rows of the terminal that standard output or input is.
pub fn window_size() -> Option<(u16, u16)> {
    sys::tty::window_size(io::stdout()).or_else(|| sys::tty::window_size(io::stdin()))
}
