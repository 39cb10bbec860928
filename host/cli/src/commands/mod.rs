//! One file for each verb: its flags, and what it does. The table of verbs is `args.rs`.

pub mod attach;
pub mod check;
pub mod completion;
pub mod console;
pub mod create;
pub mod exec;
pub mod image;
pub mod inspect;
pub mod kill;
pub mod logs;
mod many;
pub mod pause;
pub mod ps;
pub mod reap;
pub mod resume;
pub mod rm;
pub mod run;
mod running;
pub mod sandbox;
pub mod start;
pub mod stop;
pub mod version;
pub mod wait;
