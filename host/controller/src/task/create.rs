//! Creating a container: its disks, its streams, its root, its init.
//!
//! What the host can do alone (opening FIFOs, making an image of a folder) goes on while the guest still boots.

use std::path::PathBuf;

use tokio::sync::watch;
use tracing::warn;

use super::process::{Live, Process, Stage};
use super::rootfs::{self, PlacedLayer, RootfsMount};
use super::stdio::log::{CriLog, LogOptions, SharedLog};
use super::stdio::remote::Remotes;
use super::stdio::{IoRequest, Opened};
use crate::agent::{GuestSpec, Rootfs};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::sandbox::boot::{BootError, Vm};
use crate::sandbox::history::History;
use crate::sandbox::state::SandboxRefusal;
use crate::sandbox::timeline::Timeline;
use crate::vmm::{DiskFile, VmmError};

/// A container to create, checked as far as the host can.
pub struct Creation {
    /// Its name.
    pub id: ContainerId,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The specification as the guest gets it.
    pub spec: GuestSpec,
    /// Its init as the bundle has it: an OCI `Process` as JSON.
    pub process: Vec<u8>,
    /// Its root file system.
    pub layers: Vec<PlacedLayer>,
    /// What its root was asked to be.
    pub rootfs: Vec<RootfsMount>,
    /// Its init's input and output.
    pub io: IoRequest,
    /// Where output is kept beside that.
    pub log: Option<LogOptions>,
    /// Bound of the tmpfs upper.
    pub tmpfs_bytes: u64,
    /// Where images of folders are made.
    pub scratch: PathBuf,
    /// Whether Delete tidies up in the guest; not where the VM is thrown away.
    pub keep_guest_state: bool,
    /// The VM, as soon as its agent answers.
    pub booted: watch::Receiver<Option<std::result::Result<Vm, std::sync::Arc<BootError>>>>,
    /// Where the start's points are noted.
    pub timeline: Timeline,
    /// Streams that its processes can have as input and output.
    pub remotes: Remotes,
    /// Where everybody sees what happens to it.
    pub history: History,
}

impl Creation {
    /// Does it: answers the VM and the init process, which waits for Start. On failure the guest has nothing of it.
    pub async fn run(&mut self) -> Result<(Vm, Process)> {
        let log = self.log.take().map(CriLog::open).transpose()?.map(SharedLog::new);
        let opened = Opened::open(&self.io, log, &self.remotes)?;
        let images = self.images().await?;
        let vm = self.vm().await?;
        let Some(_busy) = vm.vmm.busy() else { return Err(SandboxRefusal::Paused.into()) };
        match self.attach(&vm, images).await {
            Err(VmmError::Ended) => return Err(Error::VmEnded(vm.vmm.ended().await)),
            attached => attached?,
        }
        let (stdio, drain) = opened.connect(&vm.vsock);
        let agent = &vm.agent;
        let prepared = agent.prepare(&self.id, std::mem::take(&mut self.spec), self.rootfs()).await;
        if let Err(error) = prepared {
            return Err(explain(&vm, error).await);
        }
        match agent.create(&self.id, stdio.ids(), self.io.terminal).await {
            Ok(guest_pid) => {
                self.timeline.mark("task_created");
                let live = Live { guest_pid, stdio };
                let process = std::mem::take(&mut self.process);
                Ok((vm, Process::live(self.io.clone(), process, Stage::Created, live, drain)))
            }
            Err(error) => {
                if let Err(error) = agent.release(&self.id).await {
                    warn!(container = %self.id, %error, "the root of a container that was not created stays mounted");
                }
                Err(explain(&vm, error).await)
            }
        }
    }

    /// Images of the folders among the layers, each with its slot.
    async fn images(&self) -> Result<Vec<(usize, DiskFile)>> {
        let mut images = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            if let PlacedLayer::Folder(folder, _) = layer {
                images.push((number, rootfs::image_of(folder, &self.scratch).await?));
            }
        }
        Ok(images)
    }

    async fn vm(&mut self) -> Result<Vm> {
        match self.booted.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(vm))) => Ok(vm.clone()),
            Ok(Some(Err(error))) => Err(Error::Boot(error.clone())),
            Ok(None) | Err(_) => Err(Error::Gone),
        }
    }

    /// Gives the running VM the disks that it does not have yet.
    async fn attach(&mut self, vm: &Vm, images: Vec<(usize, DiskFile)>) -> std::result::Result<(), VmmError> {
        for layer in &mut self.layers {
            if let PlacedLayer::Image(placed) | PlacedLayer::Writable(placed) = layer
                && let Some(file) = placed.attach.take()
            {
                vm.vmm.attach(placed.disk.slot, &file, placed.disk.serial.clone()).await?;
            }
        }
        for (number, image) in images {
            let PlacedLayer::Folder(_, disk) = &mut self.layers[number] else { continue };
            disk.bytes = image.bytes();
            vm.vmm.attach(disk.slot, &image, disk.serial.clone()).await?;
        }
        Ok(())
    }

    fn rootfs(&self) -> Rootfs {
        let mut rootfs = Rootfs { tmpfs_bytes: self.tmpfs_bytes, ..Rootfs::default() };
        for layer in &self.layers {
            match layer {
                PlacedLayer::Writable(placed) => rootfs.upper = Some(placed.disk.clone()),
                PlacedLayer::Image(_) | PlacedLayer::Folder(..) => rootfs.lowers.push(layer.disk().clone()),
            }
        }
        rootfs
    }
}

/// The better story of a failed call: if the VM is over, that is why.
pub async fn explain(vm: &Vm, error: crate::agent::AgentError) -> Error {
    use crate::agent::AgentError::{Refused, Unreachable};
    match error {
        Refused { .. } => error.into(),
        Unreachable(_) => Error::VmEnded(super::process::vm_over(vm).await),
        _ => vm.vmm.end().map_or_else(|| error.into(), Error::VmEnded),
    }
}
