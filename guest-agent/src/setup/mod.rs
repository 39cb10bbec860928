//! The set-up process: the agent's own program, started afresh with one thread, that makes a container around itself and
//! then becomes the container's program.
//!
//! It is born in its cgroup and pid namespace ([`crate::sys::spawn`]), reads one [`job::Job`] from descriptor
//! [`CHANNEL_FD`], and reports over it ([`crate::process::handshake`]). Everything that resolves a path of the container
//! does so below a descriptor of its root, before `pivot_root`, while `/proc` and `/dev` are still the guest's own.
//!
//! The order matters:
//!
//! ```text
//!   namespaces → settings → mounts → devices → terminal → hidden paths → pivot_root
//!      → limits → user, capabilities, seccomp → look the program up → (Start) → execute
//! ```

mod channel;
mod credentials;
mod devices;
mod hooks;
mod inside;
pub mod job;
mod mounts;
mod namespaces;
mod program;
mod root;
mod terminal;
mod users;

use std::fs;
use std::os::fd::{AsFd, RawFd};

use nix::sched::{CloneFlags, setns};
use nix::unistd::setsid;

use self::channel::Channel;
use self::inside::Root;
use self::job::{ContainerJob, Job, ProcessJob};
use crate::process::handshake::{Attempt, Failure, FromSetup};
use crate::sys::fd::inherited;
use crate::sys::{keyring, signal};

/// The argument that makes the agent's program a set-up process.
pub const ARGUMENT: &str = "container-init";
/// Where a set-up process finds its socket to the agent.
pub const CHANNEL_FD: RawFd = 3;
/// Where an exec finds the pidfd of its container's init.
pub const CONTAINER_FD: RawFd = 4;

type Result<T> = std::result::Result<T, Failure>;

/// Does a set-up process's work if the program was started as one, and then does not return.
pub fn run_if_asked() {
    let mut args = std::env::args_os();
    if args.len() != 2 || args.nth(1).is_none_or(|argument| argument != ARGUMENT) {
        return;
    }
    // Nobody in the container may look into this process or trace it, not even with CAP_SYS_PTRACE in its namespaces:
    // it still holds the agent's program and a socket to the agent.
    let dumpable = nix::sys::prctl::set_dumpable(false);
    let Some(mut channel) = inherited(CHANNEL_FD).map(Channel::new) else { std::process::exit(127) };
    let outcome = dumpable.attempt(|| "hide the set-up process".to_owned()).and_then(|()| run(&mut channel));
    if let Err(failure) = outcome {
        channel.send(&FromSetup::Failed(failure), None).ok();
        std::process::exit(127);
    }
    std::process::exit(0);
}

fn run(channel: &mut Channel) -> Result<()> {
    match channel.receive_job()? {
        Job::Create(job) => create(&job, channel),
        Job::Exec(job) => exec(&job, channel),
        Job::Hooks(hooks) => hooks::run_all(&hooks),
    }
}

/// Becomes a container's init.
fn create(job: &ContainerJob, channel: &mut Channel) -> Result<()> {
    setsid().attempt(|| "lead a session".to_owned())?;
    keyring::join_new_session().attempt(|| "make a session keyring".to_owned())?;
    set_oom_score(&job.process)?;
    namespaces::enter(job)?;
    if job.runtime_hooks {
        channel.send(&FromSetup::NamespacesReady, None)?;
        channel.wait()?;
    }
    root::isolate(&job.rootfs)?;
    let mut root = Root::open(&job.rootfs)?;
    mounts::mount_all(job, &mut root)?;
    if job.populate_dev {
        devices::populate(&job.devices, &root)?;
    }
    hooks::run_in_container(&job.create_container_hooks)?;
    root.make_folder(&job.process.cwd)?;
    let terminal = match job.process.terminal {
        Some(size) => {
            let terminal = terminal::open(&root.open_terminal()?, size)?;
            terminal::bind_console(&terminal, &root)?;
            Some(terminal)
        }
        None => None,
    };
    root::hide(job, &root)?;
    root::enter(&root, job.root_propagation)?;
    become_program(&job.process, terminal, channel, Some(job))
}

/// Becomes another process of a running container.
fn exec(job: &ProcessJob, channel: &mut Channel) -> Result<()> {
    setsid().attempt(|| "lead a session".to_owned())?;
    keyring::join_new_session().attempt(|| "make a session keyring".to_owned())?;
    set_oom_score(job)?;
    let container =
        inherited(CONTAINER_FD).ok_or_else(|| Failure::new("join the container", "no descriptor"))?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    setns(&container, all).attempt(|| "join the container's namespaces".to_owned())?;
    drop(container);
    let terminal = match job.terminal {
        Some(size) => Some(terminal::open(&terminal::multiplexer("/dev/pts/ptmx")?, size)?),
        None => None,
    };
    become_program(job, terminal, channel, None)
}

/// The common end of both: takes on limits and identity, and executes. `container` is there for an init.
fn become_program(
    process: &ProcessJob,
    terminal: Option<terminal::Terminal>,
    channel: &mut Channel,
    container: Option<&ContainerJob>,
) -> Result<()> {
    let user = users::resolve(&process.user)?;
    let mut master = None;
    if let Some(terminal) = terminal {
        master = Some(terminal::take(terminal)?);
    }
    credentials::limit(process)?;
    let program = credentials::change(process, &user)?;
    let program = program.look_up()?;
    channel.send(&FromSetup::Ready, master.as_ref().map(AsFd::as_fd))?;
    drop(master);
    if let Some(container) = container {
        channel.wait()?;
        hooks::run_in_container(&container.start_container_hooks)?;
    }
    // Rust's runtime ignores SIGPIPE, and whoever started the agent may ignore more: a program would never learn of either.
    // Not before the hooks, whose stdin may be a broken pipe.
    signal::stop_ignoring();
    credentials::filter_last(process)?;
    Err(program.execute())
}

/// The agent must survive what its containers do not, so its own score is not for them to inherit.
fn set_oom_score(process: &ProcessJob) -> Result<()> {
    let score = process.oom_score_adj.unwrap_or(0);
    fs::write("/proc/self/oom_score_adj", score.to_string())
        .attempt(|| format!("set oom_score_adj to {score}"))
}
