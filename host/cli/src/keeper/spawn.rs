//! Starting a keeper the way containerd does: the program's `start` forks it off and prints where it listens.
//!
//! The VM boots from here on, while the command goes on to write the bundle: [`Starting::ready`] is only awaited when the
//! keeper is needed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prost::Message;
use prost_types::Any;
use serde::Deserialize;
use theca_proto::theca::keeper::v1::{Disk, SandboxOptions};
use theca_proto::type_url;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::program::{ProgramError, keeper_program};
use super::{Keeper, KeeperError};
use crate::container::{ContainerId, NAMESPACE, Roots};

/// What a keeper may print before it is taken for something else.
const LONGEST_REPLY: u64 = 64 << 10;
/// How long a `start` that is no longer wanted may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// What a sandbox is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Virtual processors.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_mib: u64,
    /// Another guest kernel.
    pub kernel: Option<PathBuf>,
    /// Added to the kernel's command line.
    pub kernel_cmdline: String,
    /// The disks that the container will name: path and whether it is read-only. None: the VM boots at Create.
    pub disks: Vec<(PathBuf, bool)>,
    /// Whether the sandbox ends with this process.
    pub ends_with_us: bool,
    /// Whether nothing written to the disks is needed afterwards.
    pub ephemeral: bool,
    /// What the keeper runs when nobody is left to tidy up.
    pub exit_command: Vec<String>,
}

/// Why a keeper could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program is not there.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The program could not be run, or its reply not be read.
    #[error("failed to {action} {program}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The keeper's program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The keeper gave up.
    #[error("{0}")]
    Failed(String),
    /// The reply is not one.
    #[error("{program} answered {reply:?} instead of its address; is it of the same version as theca?")]
    Reply {
        /// The keeper's program.
        program: PathBuf,
        /// The beginning of what it printed.
        reply: String,
    },
    /// The keeper cannot be reached.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
}

/// What `start` prints.
#[derive(Deserialize)]
struct Bootstrap {
    address: String,
}

/// A keeper on its way. Dropping it leaves the keeper to its own: call [`Starting::abandon`].
#[derive(Debug)]
pub struct Starting {
    child: Child,
    program: PathBuf,
    socket: PathBuf,
    id: ContainerId,
}

impl Starting {
    /// Runs the keeper's `start` in `bundle`, which need not have its config.json yet.
    pub fn spawn(
        roots: &Roots,
        id: &ContainerId,
        bundle: &Path,
        options: &Options,
    ) -> Result<Self, SpawnError> {
        let program = keeper_program()?;
        let mut command = Command::new(&program);
        command
            .args(["-namespace", NAMESPACE, "-id", id.as_str(), "start"])
            .current_dir(bundle)
            .env("THECA_ROOT", roots.data())
            .env("THECA_STATE", roots.state())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let failed = |action| {
            let program = program.clone();
            move |source| SpawnError::Io { action, program, source }
        };
        let mut child = command.spawn().map_err(failed("run"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A keeper that ends before it reads says why on its standard error.
            match stdin.write_all(&options.encode()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(failed("give options to")(error));
                }
                _ => {}
            }
        }
        Ok(Self { child, program, socket: roots.keeper_socket(id), id: id.clone() })
    }

    /// Waits until the keeper listens, and connects.
    pub async fn ready(&mut self) -> Result<Keeper, SpawnError> {
        let reply = self.reply().await?;
        let wrong =
            || SpawnError::Reply { program: self.program.clone(), reply: reply.chars().take(200).collect() };
        let bootstrap: Bootstrap = serde_json::from_str(&reply).map_err(|_| wrong())?;
        self.socket = bootstrap.address.strip_prefix("unix://").ok_or_else(wrong)?.into();
        let keeper = Keeper::connect(&self.socket, self.id.as_str()).await?;
        keeper.ok_or_else(|| SpawnError::Failed("the keeper ended as soon as it had started".into()))
    }

    /// What `start` prints until it ends.
    async fn reply(&mut self) -> Result<String, SpawnError> {
        let failed = |action| {
            let program = self.program.clone();
            move |source| SpawnError::Io { action, program, source }
        };
        let (mut reply, mut complaint) = (String::new(), String::new());
        if let Some(stdout) = self.child.stdout.take() {
            read_to_end(stdout.into(), &mut reply).await.map_err(failed("read the address from"))?;
        }
        let status = self.child.wait().map_err(failed("wait for"))?;
        if status.success() {
            return Ok(reply);
        }
        if let Some(stderr) = self.child.stderr.take() {
            read_to_end(stderr.into(), &mut complaint).await.map_err(failed("read the error of"))?;
        }
        let said = [complaint.trim(), reply.trim()].into_iter().find(|text| !text.is_empty());
        let message =
            said.map_or_else(|| format!("{} ended with {status}", self.program.display()), str::to_owned);
        Err(SpawnError::Failed(message))
    }

    /// Ends a keeper that is no longer wanted, whether or not it got as far as listening.
    pub async fn abandon(mut self) -> Result<(), KeeperError> {
        let deadline = tokio::time::Instant::now() + GRACE;
        while let Ok(None) = self.child.try_wait() {
            if tokio::time::Instant::now() >= deadline {
                // It hangs; whatever it forked is found by its socket below.
                let _ = (self.child.kill(), self.child.wait());
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match Keeper::connect(&self.socket, self.id.as_str()).await? {
            Some(keeper) => keeper.shutdown().await,
            None => Ok(()),
        }
    }
}

async fn read_to_end(pipe: std::os::fd::OwnedFd, text: &mut String) -> io::Result<()> {
    let mut bytes = Vec::new();
    Receiver::from_owned_fd(pipe)?.take(LONGEST_REPLY).read_to_end(&mut bytes).await?;
    text.push_str(&String::from_utf8_lossy(&bytes));
    Ok(())
}

impl Options {
    /// The `Any` that `start` reads.
    fn encode(&self) -> Vec<u8> {
        let disk = |(path, read_only): &(PathBuf, bool)| Disk {
            path: path.display().to_string(),
            read_only: *read_only,
        };
        let options = SandboxOptions {
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            kernel_cmdline: self.kernel_cmdline.clone(),
            kernel_path: self.kernel.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            disks: self.disks.iter().map(disk).collect(),
            parent_pid: if self.ends_with_us { std::process::id() } else { 0 },
            exit_command: self.exit_command.clone(),
            ephemeral: self.ephemeral,
            one_task: true,
            ..SandboxOptions::default()
        };
        Any { type_url: type_url::SANDBOX_OPTIONS.to_owned(), value: options.encode_to_vec() }.encode_to_vec()
    }
}
