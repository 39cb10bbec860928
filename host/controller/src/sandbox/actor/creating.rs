//! Requests for a task: what the host can check is checked here, the rest is left to the task's own actor.

use tracing::debug;

use super::{Actor, Event};
use crate::agent::{GuestDisk, GuestSpec};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::sandbox::slots::PlaceError;
use crate::sandbox::state::{Decision, SandboxState, Wish};
use crate::sandbox::{CreateTask, Reply};
use crate::task;
use crate::task::create::Creation;
use crate::task::rootfs::{self, Layer, PlacedLayer, RootfsError};
use crate::vmm::Vmm;

/// A request that passed the host's checks.
struct Plan {
    decision: Decision,
    /// The specification as the guest gets it.
    spec: GuestSpec,
    layers: Vec<PlacedLayer>,
}

impl Actor {
    /// Begins a task, and the VM before it if there is none. `reply` hears of it when the container exists.
    pub(super) fn create(&mut self, request: CreateTask, reply: Reply<u32>) {
        let plan = match self.plan(&request) {
            Ok(plan) => plan,
            Err(error) => return drop(reply.send(Err(error))),
        };
        if plan.decision == Decision::BootFirst {
            self.boot();
        }
        self.had_task = true;
        let disks: Vec<_> = plan.layers.iter().map(|layer| layer.disk().clone()).collect();
        let creation = Creation {
            id: request.id.clone(),
            bundle: request.bundle,
            spec: plan.spec,
            layers: plan.layers,
            rootfs: request.rootfs,
            io: request.io,
            log: request.log,
            tmpfs_bytes: request.tmpfs_bytes,
            scratch: self.setup.scratch.clone(),
            keep_guest_state: !self.setup.options.ephemeral,
            booted: self.booted.subscribe(),
            timeline: self.setup.timeline.clone(),
            history: self.history.clone(),
            remotes: self.remotes.clone(),
        };
        let (handle, task) = task::begin(creation, reply);
        let (id, init_exit) = (request.id.clone(), handle.init_exit());
        self.events.spawn(async move {
            init_exit.await;
            Event::InitEnded(id)
        });
        let id = request.id.clone();
        self.events.spawn(async move {
            task.await;
            Event::TaskGone(id, disks)
        });
        self.tasks.insert(request.id, handle);
    }

    /// A container has let go of its disks, and the guest has unmounted them.
    pub(super) fn let_go(&mut self, disks: &[GuestDisk]) {
        for disk in disks {
            if self.slots.release(disk)
                && let SandboxState::Running(vm) = &self.state
            {
                let detached = vm.vmm.detach(disk.slot);
                let slot = disk.slot;
                tokio::spawn(async move {
                    if let Err(error) = detached.await {
                        debug!(slot, %error, "a disk was not taken out of the VM");
                    }
                });
            }
        }
    }

    /// An error leaves nothing behind: slots are the last thing taken.
    fn plan(&mut self, request: &CreateTask) -> Result<Plan> {
        if self.tasks.contains_key(&request.id) {
            return Err(Error::ContainerExists(request.id.clone()));
        }
        let decision = self.decide(Wish::Create)?;
        let bundle = Bundle::read(&request.bundle)?;
        let layers = rootfs::layers(&request.rootfs, bundle.root_folder())?;
        let sandbox = self.state.vmm().map(Vmm::pid);
        let spec = bundle.into_guest_spec(&request.id, request.io.terminal, sandbox)?;
        Ok(Plan { decision, spec, layers: self.place(layers)? })
    }

    fn place(&mut self, layers: Vec<Layer>) -> Result<Vec<PlacedLayer>> {
        let mut placed = Vec::with_capacity(layers.len());
        for layer in layers {
            let result = match layer {
                Layer::Image(file) => self.slots.place(file).map(PlacedLayer::Image),
                Layer::Writable(file) => self.slots.place(file).map(PlacedLayer::Writable),
                Layer::Folder(path) => match self.slots.place_private() {
                    Ok(disk) => Ok(PlacedLayer::Folder(path, disk)),
                    Err(full) => Err(full.into()),
                },
            };
            match result {
                Ok(layer) => placed.push(layer),
                Err(error) => {
                    // None of them is in the VM yet.
                    for layer in &placed {
                        let _ = self.slots.release(layer.disk());
                    }
                    return Err(match error {
                        PlaceError::Full(error) => error.into(),
                        PlaceError::Disk(error) => RootfsError::from(error).into(),
                    });
                }
            }
        }
        Ok(placed)
    }
}
