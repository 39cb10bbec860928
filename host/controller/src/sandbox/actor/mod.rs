//! The task that owns a sandbox. Whatever happens to it is a request or an [`Event`]; events are futures in one set, so
//! that ending the actor ends all of them.

mod asking;
mod clock;
mod creating;
mod ending;
mod machine;
mod power_off;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{debug, error, warn};

use self::creating::BundleRead;
use super::allowance::Allowance;
use super::boot::{BootError, Vm};
use super::slots::Slots;
use super::state::{Circumstances, Decision, Ending, SandboxState, Wish};
use super::{History, Reply, Request, Setup, Shutdown};
use crate::agent::{Agent, GuestDisk};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::task::stdio::remote::Remotes;
use crate::task::{TaskHandle, TaskRequest};
use crate::vmm::end::AGENT_LOST;
use crate::vmm::{VmEnd, Vmm};

/// A keeper that nobody ever asks for a task ends: its starter died on the way.
const UNUSED: Duration = Duration::from_secs(60);
/// From a task's end to the exit command, if nobody deletes it.
const UNCOLLECTED: Duration = Duration::from_secs(1);

/// What every task waits for: nothing yet, the VM, or why there is none.
pub type Booted = Option<std::result::Result<Vm, Arc<BootError>>>;

enum Event {
    /// The boot came to an end; with it the agent's own connection, which closes when the agent is gone.
    Booted(std::result::Result<(Vm, UnixStream), BootError>),
    VmEnded(Arc<VmEnd>),
    AgentLost,
    /// Or was never created.
    InitEnded(ContainerId),
    TaskGone(ContainerId, Vec<GuestDisk>),
    /// Some time has passed since a task ended.
    Uncollected,
    ParentEnded,
    /// Some time has passed since the keeper began.
    Unused,
    /// Something of a container was killed for memory; more may follow.
    OutOfMemory(ContainerId, mpsc::Receiver<ContainerId>),
    /// The guest has taken what its containers may use; who asked is told now.
    Allowed(Allowance, Reply<()>),
    /// Some time has passed since the guest's clock was looked at.
    ClockDue,
    /// Somebody got an answer from the guest.
    Answered,
    /// What a task is to be made of was read, or not.
    BundleRead(Box<BundleRead>),
}

/// The owner of a sandbox.
pub struct Actor {
    setup: Setup,
    inbox: mpsc::Receiver<Request>,
    state: SandboxState,
    slots: Slots,
    /// Those whose bundle is being read, too.
    tasks: BTreeMap<ContainerId, TaskHandle>,
    had_task: bool,
    booted: watch::Sender<Booted>,
    supervisor: Option<JoinHandle<()>>,
    events: JoinSet<Event>,
    exit_command: Vec<String>,
    history: History,
    remotes: Remotes,
}

/// Why the actor's loop ended.
enum Over {
    Asked { grace: Option<Duration>, reply: Option<Reply<()>> },
    ParentEnded,
    Unused,
}

impl Over {
    /// By somebody who does not wait for it.
    fn told() -> Self {
        Self::Asked { grace: None, reply: None }
    }
}

impl Actor {
    pub fn new(mut setup: Setup, inbox: mpsc::Receiver<Request>, history: History, remotes: Remotes) -> Self {
        let exit_command = std::mem::take(&mut setup.options.exit_command);
        Self {
            setup,
            inbox,
            state: SandboxState::Idle,
            slots: Slots::default(),
            tasks: BTreeMap::new(),
            had_task: false,
            booted: watch::Sender::new(None),
            supervisor: None,
            events: JoinSet::new(),
            exit_command,
            history,
            remotes,
        }
    }

    /// Serves until the sandbox is to end, then ends it.
    pub async fn run(mut self) {
        self.watch_parent();
        self.watch_use();
        self.write_record();
        self.boot_ahead();
        let over = loop {
            let step = tokio::select! {
                Some(event) = self.events.join_next() => match event {
                    Ok(event) => self.handle(event),
                    Err(lost) => {
                        error!(%lost, "a part of the keeper failed");
                        None
                    }
                },
                request = self.inbox.recv() => match request {
                    Some(request) => self.serve(request),
                    None => Some(Over::told()),
                },
            };
            if let Some(over) = step {
                break over;
            }
        };
        self.end(over).await;
    }

    fn serve(&mut self, request: Request) -> Option<Over> {
        match request {
            Request::Create(task, reply) => self.create(*task, reply),
            Request::Find(id, reply) => {
                // Whoever asked may be gone.
                let _ = reply.send(self.tasks.get(&id).cloned().ok_or(Error::UnknownContainer));
            }
            Request::Info(reply) => self.info(reply),
            Request::KernelLog(reply) => self.kernel_log(reply),
            Request::Ready(reply) => self.ready(reply),
            Request::Metrics(reply) => self.metrics(reply),
            Request::Ping(reply) => self.ping(reply),
            Request::Pause(reply) => self.pause(reply),
            Request::Resume(reply) => self.resume(reply),
            Request::Allow(allowance, reply) => self.allow(allowance, reply),
            Request::Shutdown { how, reply } => {
                let (now, grace) = match how {
                    Shutdown::IfUnused => (false, None),
                    Shutdown::Whole { grace } => (true, grace),
                };
                match self.decide(Wish::Shutdown { now }) {
                    Ok(Decision::End) => return Some(Over::Asked { grace, reply: Some(reply) }),
                    Ok(_) => drop(reply.send(Ok(()))),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Terminate => return Some(Over::told()),
        }
        None
    }

    fn handle(&mut self, event: Event) -> Option<Over> {
        match event {
            Event::Booted(Ok((vm, ready))) => self.running(vm, ready),
            Event::Booted(Err(error)) => self.not_booted(error),
            Event::VmEnded(end) => self.vm_ended(end),
            Event::AgentLost => {
                warn!("the agent is gone");
                if let SandboxState::Running(vm) = &self.state {
                    vm.vmm.give_up(AGENT_LOST);
                }
                self.stop_vm();
            }
            Event::InitEnded(id) => {
                debug!(container = %id, "init has ended");
                if self.setup.options.ephemeral {
                    self.stop_vm();
                }
                if !self.exit_command.is_empty() {
                    self.events.spawn(async {
                        sleep(UNCOLLECTED).await;
                        Event::Uncollected
                    });
                }
            }
            Event::TaskGone(id, disks) => {
                self.tasks.remove(&id);
                self.let_go(&disks);
            }
            Event::Uncollected => {
                if !self.tasks.is_empty() {
                    self.run_exit_command();
                }
            }
            Event::ParentEnded => return Some(Over::ParentEnded),
            // Bundles are being read.
            Event::Unused if !self.had_task && !self.tasks.is_empty() => self.watch_use(),
            Event::Unused => {
                if !self.had_task && !self.setup.options.hold {
                    return Some(Over::Unused);
                }
            }
            Event::OutOfMemory(id, killed) => {
                if let Some(task) = self.tasks.get(&id) {
                    task.tell(TaskRequest::OutOfMemory);
                }
                self.next_kill(killed);
            }
            Event::Allowed(allowance, reply) => {
                self.setup.options.allowance = allowance;
                let _ = reply.send(Ok(()));
            }
            Event::ClockDue => self.look_at_clock(),
            Event::Answered => {}
            Event::BundleRead(read) => self.bundle_read(*read),
        }
        None
    }

    fn watch_use(&mut self) {
        self.events.spawn(async {
            sleep(UNUSED).await;
            Event::Unused
        });
    }

    /// The agent, if it can answer.
    fn agent(&self) -> Option<Arc<dyn Agent>> {
        match &self.state {
            SandboxState::Running(vm) if !vm.vmm.is_paused() => Some(vm.agent.clone()),
            _ => None,
        }
    }

    /// As soon as the VMM is known to have ended: a task may tell its end before the event is handled here.
    fn vm_end(&self) -> Option<Arc<VmEnd>> {
        match &self.state {
            SandboxState::Ended(Ending::Ended(end)) => Some(end.clone()),
            state => state.vmm().and_then(Vmm::end),
        }
    }

    fn decide(&self, wish: Wish) -> Result<Decision> {
        let circumstances = Circumstances {
            tasks: self.tasks.len(),
            had_task: self.had_task,
            ephemeral: self.setup.options.ephemeral,
            hold: self.setup.options.hold,
            paused: self.state.vmm().is_some_and(Vmm::is_paused),
        };
        self.state.phase().accept(wish, circumstances).map_err(|refusal| match &self.state {
            // Why it is over says more than that it is.
            SandboxState::Ended(Ending::NotBooted(error)) => Error::Boot(error.clone()),
            SandboxState::Ended(Ending::Ended(end)) => Error::VmEnded(end.clone()),
            _ => refusal.into(),
        })
    }
}
