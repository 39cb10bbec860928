//! The end of a sandbox, and who is told of it.

use std::error::Error;
use std::process::{Command, Stdio};

use tracing::{debug, error, info, warn};

use super::power_off::bounded;
use super::{Actor, Event, Over};
use crate::sandbox::state::SandboxState;
use crate::sys::pidfd::PidFd;
use crate::sys::{readiness, session};

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
    pub(super) async fn end(mut self, mut over: Over) {
        let mut waiting = Vec::new();
        if let Over::Asked { grace, reply } = &mut over {
            waiting.extend(reply.take());
            if let (SandboxState::Running(vm), false) = (&self.state, self.setup.options.ephemeral) {
                let (vm, grace) = (vm.clone(), bounded(*grace));
                self.power_off(vm, grace, &mut waiting).await;
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
            Over::Asked { .. } => {}
            Over::ParentEnded => self.run_exit_command(),
            Over::Unused => info!("nobody asked for a task"),
        }
        for reply in waiting {
            // Whoever asked may be gone.
            let _ = reply.send(Ok(()));
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
