//! Requests for a task: what the host can check is checked here, the rest is left to the task's own actor.
//!
//! A task can be named from the moment that it is asked for: requests for it wait while its bundle is read, and a Delete ends that.
//!
//! Bundles and disks may be on a file system that hangs, which is no fault of the containers that run: they are read on a thread
//! of their own, and not for ever.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::debug;

use super::{Actor, Event};
use crate::agent::{GuestDisk, GuestSpec};
use crate::bundle::{Bundle, BundleError};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::sandbox::slots::PlaceError;
use crate::sandbox::state::{Decision, SandboxState, Wish};
use crate::sandbox::{CreateTask, Reply};
use crate::task::create::Creation;
use crate::task::rootfs::{self, Layer, PlacedLayer, RootfsError};
use crate::task::{self, Announced};
use crate::vmm::Vmm;

/// How long reading a bundle and opening its disks may take.
const READING: Duration = Duration::from_secs(30);

/// A task whose bundle was read, or not.
pub struct BundleRead {
    pub(super) asked: Asked,
    read: Result<Read>,
}

/// A task that can be named, and who waits for it.
pub(super) struct Asked {
    id: ContainerId,
    task: Announced,
    reply: Reply<u32>,
}

/// A request whose bundle was read.
struct Read {
    request: CreateTask,
    /// The specification as the guest gets it.
    spec: GuestSpec,
    /// Init as the bundle has it.
    process: Vec<u8>,
    layers: Vec<Layer>,
}

/// A request that passed the host's checks.
struct Plan {
    decision: Decision,
    request: CreateTask,
    spec: GuestSpec,
    process: Vec<u8>,
    layers: Vec<PlacedLayer>,
}

impl Actor {
    /// Reads what a task is made of; [`Actor::bundle_read`] goes on.
    pub(super) fn create(&mut self, request: CreateTask, reply: Reply<u32>) {
        if let Err(error) = self.accept_task(&request) {
            return drop(reply.send(Err(error)));
        }
        let (handle, task) = task::announce();
        let mut asked = Asked { id: request.id.clone(), task, reply };
        self.tasks.insert(request.id.clone(), handle);
        let sandbox = self.state.vmm().map(Vmm::pid);
        self.events.spawn(async move {
            let folder = request.bundle.clone();
            let reading = apart(folder, READING, move || read(request, sandbox));
            let read = asked.unless_deleted(reading).await;
            Event::BundleRead(Box::new(BundleRead { asked, read }))
        });
    }

    /// Begins a task, and the VM before it if there is none. `reply` hears of it when the container exists.
    pub(super) fn bundle_read(&mut self, bundle: BundleRead) {
        let BundleRead { asked, read } = bundle;
        let Plan { decision, request, spec, process, layers } = match read.and_then(|read| self.plan(read)) {
            Ok(plan) => plan,
            Err(error) => return self.not_made(asked, error),
        };
        let Asked { id, task, reply } = asked;
        if decision == Decision::BootFirst {
            self.boot();
        }
        self.had_task = true;
        let disks: Vec<_> = layers.iter().map(|layer| layer.disk().clone()).collect();
        let creation = Creation {
            id: request.id.clone(),
            bundle: request.bundle,
            spec,
            process,
            layers,
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
        let init_exit = task.init_exit();
        self.events.spawn(async move {
            init_exit.await;
            Event::InitEnded(request.id)
        });
        let task = task.begin(creation, reply);
        self.events.spawn(async move {
            task.await;
            Event::TaskGone(id, disks)
        });
    }

    /// A task does not come to be. Its name is free before anybody hears of that.
    pub(super) fn not_made(&mut self, asked: Asked, error: Error) {
        let Asked { id, task, reply } = asked;
        self.tasks.remove(&id);
        let _ = reply.send(Err(error));
        drop(task);
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

    /// Whether a task of this name may come to be.
    fn accept_task(&self, request: &CreateTask) -> Result<Decision> {
        if self.tasks.contains_key(&request.id) {
            return Err(Error::ContainerExists(request.id.clone()));
        }
        self.decide(Wish::Create)
    }

    /// Much may have happened while the bundle was read. An error leaves nothing behind: slots are the last thing taken.
    fn plan(&mut self, read: Read) -> Result<Plan> {
        let Read { request, spec, process, layers } = read;
        let decision = self.decide(Wish::Create)?;
        Ok(Plan { decision, request, spec, process, layers: self.place(layers)? })
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

impl Asked {
    /// Waits for what the task is made of, but no longer than it is wanted.
    async fn unless_deleted<T>(&mut self, reading: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.task.unwanted() => Err(Error::Deleted(self.id.clone())),
            read = reading => read,
        }
    }
}

fn read(request: CreateTask, sandbox: Option<u32>) -> Result<Read> {
    let bundle = Bundle::read(&request.bundle)?;
    let layers = rootfs::layers(&request.rootfs, bundle.root_folder())?;
    let process = bundle.process();
    let spec = bundle.into_guest_spec(&request.id, request.io.terminal, sandbox)?;
    Ok(Read { request, spec, process, layers })
}

/// Reads what a task in `folder` is made of, on a thread of its own. One that hangs is left alone: nobody waits for it, not even
/// the keeper's end.
async fn apart<T: Send + 'static>(
    folder: PathBuf,
    limit: Duration,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("bundle".into()).spawn(move || drop(done.send(read())));
    if let Err(source) = thread {
        return Err(BundleError::Read { path: folder, source }.into());
    }
    match timeout(limit, answer).await {
        Ok(read) => read.map_err(|_| Error::Gone)?,
        Err(_) => Err(BundleError::Late { folder, limit }.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskRequest;

    #[tokio::test]
    async fn a_bundle_on_a_file_system_that_hangs_is_given_up_and_holds_up_nothing() {
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_millis(100);
        let reading = apart("/bundle".into(), limit, move || Ok(hang.recv().is_ok()));
        let others = async { tokio::task::yield_now().await };
        let (read, ()) = tokio::join!(reading, others);
        assert!(matches!(read, Err(Error::Bundle(BundleError::Late { .. }))), "{read:?}");
        drop(release);
        assert!(apart("/bundle".into(), Duration::from_secs(20), || Ok(true)).await.unwrap());
    }

    #[tokio::test]
    async fn a_task_is_deleted_while_its_bundle_is_on_a_file_system_that_hangs() {
        let (_release, hang) = std::sync::mpsc::channel::<()>();
        let (handle, task) = task::announce();
        let (reply, created) = oneshot::channel();
        let mut asked = Asked { id: "web".parse().unwrap(), task, reply };
        let reading = apart("/bundle".into(), Duration::from_secs(3600), move || Ok(hang.recv().is_ok()));
        let making = async {
            let read = asked.unless_deleted(reading).await;
            let Asked { task, reply, .. } = asked;
            let _ = reply.send(read.map(u32::from));
            drop(task);
        };
        let deleting = handle.ask(|reply| TaskRequest::Delete(None, reply));
        let ((), deleted) =
            timeout(Duration::from_secs(10), async { tokio::join!(making, deleting) }).await.unwrap();
        assert!(matches!(deleted, Err(Error::UnknownContainer)), "{deleted:?}");
        let created = created.await.unwrap();
        assert!(matches!(created, Err(Error::Deleted(_))), "{created:?}");
    }
}
