//! One file for each command: its flags, and what it does.

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
pub mod start;
pub mod stop;
pub mod version;
pub mod wait;

use crate::args::Command;

/// Runs a command and returns its exit code.
pub async fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Create(args) => create::run(args).await,
        Command::Start(args) => start::run(args).await,
        Command::Exec(args) => exec::run(args).await,
        Command::Attach(args) => attach::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Ps(args) => ps::run(args).await,
        Command::Inspect(args) => inspect::run(args).await,
        Command::Kill(args) => kill::run(args).await,
        Command::Stop(args) => stop::run(args).await,
        Command::Pause(args) => pause::run(args).await,
        Command::Resume(args) => resume::run(args).await,
        Command::Wait(args) => wait::run(args).await,
        Command::Rm(args) => rm::run(args).await,
        Command::Image(command) => image::run(command).await,
        Command::Console(args) => console::run(args).await,
        Command::Check(args) => check::run(args),
        Command::Version(args) => version::run(args),
        Command::Completion(args) => completion::run(args),
        Command::Reap(args) => reap::run(args).await,
    }
}
