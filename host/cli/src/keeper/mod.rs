//! The keeper of a sandbox: starting it, and talking to it.

mod client;
mod death;
mod program;
mod spawn;

pub use client::{KILLED, Keeper, KeeperError};
pub use death::Death;
pub use program::{ProgramError, keeper_program, kernel_and_initrd};
pub use spawn::{Options, Starting};
