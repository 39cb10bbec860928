//! The end of a sandbox, and who is told of it.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{Actor, Event, Over};
use crate::agent::AgentError;
use crate::sandbox::state::SandboxState;
use crate::sys::pidfd::PidFd;
use crate::sys::{readiness, session};

/// Containers' grace in an orderly shutdown that names none.
const GRACE: Duration = Duration::from_millis(500);
/// Most that one can name.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);
/// Bound of a whole orderly shutdown, beside the grace.
const ORDERLY: Duration = Duration::from_secs(10);

impl Actor {
    /// An event for the end of the process that the sandbox must not outlive.
    pub(super) fn watch_parent(&mut self) {
        let Some(pid) = self.setup.options.parent else { return };
        let held =
            PidFd::open(pid).and_then(|held| held.map(|held| readiness::register(held.into())).transpose());
        self.events.spawn(async move {
            match held {
                Ok(Some(process)) => {
                    // Readable is all a pidfd ever becomes; an error means that it cannot be watched: the same to us.
                    let _ = process.readable().await;
                }
                Ok(None) => {}
                Err(error) => warn!(pid, %error, "the parent process cannot be watched"),
            }
            Event::ParentEnded
        });
    }

    /// Once, in a session of its own, with the keeper's environment.
    pub(super) fn run_exit_command(&mut self) {
        let words = std::mem::take(&mut self.exit_command);
        let Some((program, arguments)) = words.split_first() else { return };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        session::detach(&mut command);
        match command.spawn() {
            Ok(_) => debug!(program, "exit command started"),
            Err(error) => warn!(program, %error, "the exit command did not start"),
        }
    }

    /// Ends the VM, the tasks and the folder; what fails is logged, for there is nobody left to tell.
    pub(super) async fn end(mut self, over: Over) {
        let orderly = matches!(over, Over::Asked { .. }) && !self.setup.options.ephemeral;
        let grace = match over {
            Over::Asked { grace: Some(grace), .. } => grace.min(LONGEST_GRACE),
            _ => GRACE,
        };
        if let (SandboxState::Running(vm), true) = (&self.state, orderly) {
            let shutdown = async {
                if vm.vmm.is_paused() {
                    vm.vmm.resume().await.map_err(|error| AgentError::Unreachable(error.to_string()))?;
                }
                vm.agent.shutdown(grace).await?;
                vm.vmm.ended().await;
                Ok::<_, AgentError>(())
            };
            match timeout(ORDERLY + grace, shutdown).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(%error, "the guest did not shut down and is killed"),
                Err(_) => warn!("the guest took too long to shut down and is killed"),
            }
        }
        if let Some(vmm) = self.state.vmm() {
            vmm.stop();
            vmm.halted().await;
        }
        if !self.setup.options.ephemeral {
            // Its disks may be wanted again at once. Otherwise whoever asked need not wait until memory is given back.
            self.vmm_gone().await;
        }
        self.tasks.clear();
        self.history.close();
        self.events.shutdown().await;
        if let Err(error) = self.setup.folder.remove() {
            error!(error = &error as &dyn Error, "the sandbox's folder stays");
        }
        match over {
            Over::Asked { reply, .. } => {
                // Whoever asked may be gone.
                let _ = reply.map(|reply| reply.send(Ok(())));
            }
            Over::ParentEnded => self.run_exit_command(),
            Over::Unused => info!("nobody asked for a task"),
        }
        self.vmm_gone().await;
    }

    /// Waits for the VMM process to be gone, which is bounded: what does not end is killed.
    async fn vmm_gone(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // An error is a panic there, and then the process was killed on drop.
            let _ = supervisor.await;
        }
    }
}
