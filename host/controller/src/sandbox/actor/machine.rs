//! The VM's part of a sandbox: started, greeted, watched, stopped, and always on record.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Actor, Event};
use crate::error::story;
use crate::id::ContainerId;
use crate::sandbox::boot::{self, BootError, Launched, Vm};
use crate::sandbox::history::{Happening, Subject};
use crate::sandbox::record::Record;
use crate::sandbox::slots::PlaceError;
use crate::sandbox::state::{Ending, SandboxState};
use crate::sys::pidfd::ProcessRef;
use crate::vmm::{DiskFile, VmEnd};

/// A VM whose agent is gone is on its way down; then it is helped.
const AGENT_LOST: Duration = Duration::from_secs(2);

impl Actor {
    /// The VM boots before anybody asks for a task when it is known what for: the first task's disks, that there will be
    /// exactly one task, or that the sandbox is wanted without any.
    pub(super) fn boot_ahead(&mut self) {
        let disks = std::mem::take(&mut self.setup.options.disks);
        let expected = self.setup.options.ephemeral || self.setup.options.hold;
        if disks.is_empty() && !expected {
            return;
        }
        for disk in disks {
            let announced = DiskFile::open(&disk.path, disk.read_only)
                .map_err(PlaceError::from)
                .and_then(|file| self.slots.announce(file));
            if let Err(error) = announced {
                // Create will name the same disk and get the same error, as its answer.
                warn!(%error, "the VM does not boot ahead");
                return;
            }
        }
        self.boot();
    }

    pub(super) fn boot(&mut self) {
        let setup = &self.setup;
        match boot::launch(
            &setup.installation,
            &setup.options,
            &setup.folder,
            &mut self.slots,
            &setup.timeline,
        ) {
            Ok(Launched { vmm, supervisor, rest }) => {
                info!(pid = vmm.pid(), "VM started");
                let ended = vmm.clone();
                self.events.spawn(async move { Event::VmEnded(ended.ended().await) });
                let connector = setup.connector.clone();
                self.events.spawn(async move { Event::Booted(rest.finish(connector).await) });
                self.supervisor = Some(supervisor);
                self.state = SandboxState::Booting(vmm);
                self.write_record();
            }
            Err(error) => self.not_booted(error),
        }
    }

    pub(super) fn running(&mut self, vm: Vm, ready: UnixStream) {
        info!(kernel = %vm.greeting.kernel_release, "agent ready");
        self.events.spawn(async move {
            boot::agent_lost(ready).await;
            sleep(AGENT_LOST).await;
            Event::AgentLost
        });
        if let SandboxState::Booting(_) = self.state {
            self.watch_memory(&vm);
            self.history.record(self.whole(vm.vmm.pid()), Happening::VmReady);
            self.booted.send_replace(Some(Ok(vm.clone())));
            self.state = SandboxState::Running(vm);
            self.clock_later();
        }
    }

    pub(super) fn not_booted(&mut self, error: BootError) {
        let error = Arc::new(error);
        warn!(error = &*error as &dyn Error, "the VM did not boot");
        let ended = Happening::VmEnded { reason: story(&*error), orderly: false };
        self.history.record(self.whole(0), ended);
        self.booted.send_replace(Some(Err(error.clone())));
        self.state = SandboxState::Ended(Ending::NotBooted(error));
    }

    pub(super) fn vm_ended(&mut self, end: Arc<VmEnd>) {
        info!(%end, "VM ended");
        // Before the agent reported, the boot's own outcome tells the story.
        if matches!(self.state, SandboxState::Running(_) | SandboxState::Stopping(_)) {
            let ended = Happening::VmEnded { reason: end.to_string(), orderly: end.is_orderly() };
            self.history.record(self.whole(0), ended);
            self.state = SandboxState::Ended(Ending::Ended(end));
        }
    }

    /// Kills for memory that no exit tells of: of processes that a container has made itself.
    fn watch_memory(&mut self, vm: &Vm) {
        let agent = vm.agent.clone();
        let (told, killed) = mpsc::channel(1);
        self.events.spawn(async move {
            if let Err(error) = agent.watch_memory(told).await {
                debug!(%error, "nobody tells of kills for memory any more");
            }
            Event::Answered
        });
        self.next_kill(killed);
    }

    pub(super) fn next_kill(&mut self, mut killed: mpsc::Receiver<ContainerId>) {
        self.events.spawn(async move {
            match killed.recv().await {
                Some(id) => Event::OutOfMemory(id, killed),
                None => Event::Answered,
            }
        });
    }

    /// The sandbox as what an event is about.
    fn whole(&self, pid: u32) -> Subject {
        Subject { pid, ..Subject::default() }
    }

    pub(super) fn stop_vm(&mut self) {
        if let Some(vmm) = self.state.vmm().cloned() {
            vmm.stop();
            self.state = SandboxState::Stopping(vmm);
        }
    }

    pub(super) fn write_record(&self) {
        let written = ProcessRef::this().map_err(|error| error.to_string()).and_then(|keeper| {
            let vmm = self.state.vmm().and_then(|vmm| ProcessRef::of(vmm.pid()).ok());
            let record = Record { version: 1, bundle: self.setup.bundle.clone(), keeper, vmm };
            record.write(&self.setup.folder.state_file()).map_err(|error| error.to_string())
        });
        if let Err(error) = written {
            warn!(error, "the sandbox's record is out of date: after a crash it must be removed by hand");
        }
    }
}
