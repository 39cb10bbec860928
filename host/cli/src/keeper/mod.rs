//! The keeper of a sandbox: starting it, and talking to it.

mod client;
mod program;
mod spawn;

pub use client::{Keeper, KeeperError};
pub use program::{ProgramError, keeper_program, kernel_and_initrd};
pub use spawn::{Options, Starting};
