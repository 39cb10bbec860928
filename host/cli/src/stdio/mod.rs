//! The way of bytes between this command's stdio and a process in a sandbox, over FIFOs that the keeper opens too.
//!
//! ```text
//!  stdin ──pump "stdin"──▶ FIFO ─▶ keeper ─▶ vsock ─▶ process
//!  stdout ◀─pump "stdout"── FIFO ◀─ keeper ◀─ vsock ◀─ process
//!  stderr ◀─pump "stderr"── FIFO ◀─ …            (not with a terminal, which has one stream)
//! ```
//!
//! Each pump is a thread that blocks: the three directions never wait for each other, whatever stdin and stdout are.

mod detach;
mod fifo;
mod pump;
mod signals;
mod terminal;

pub use detach::DetachKeys;
pub use fifo::Fifos;
pub use pump::{InputEnd, Pumps};
pub use signals::Signals;
pub use terminal::{RawTerminal, restore as restore_terminal, stdin_is_terminal, window_size};
