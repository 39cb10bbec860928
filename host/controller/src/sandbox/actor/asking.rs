//! Questions about the sandbox, and orders to its VM as a whole. The guest and the VMM take their time; the actor does not
//! wait for them. Whoever asked may be gone when they answer.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;

use super::{Actor, Event, clock};
use crate::agent::AgentError;
use crate::error::{Error, Result};
use crate::sandbox::allowance::Allowance;
use crate::sandbox::boot::Vm;
use crate::sandbox::state::{SandboxRefusal, SandboxState, Wish};
use crate::sandbox::{LONGEST_PING, Reply, SandboxInfo, SandboxMetrics};
use crate::task::create::explain;
use crate::vmm::Vmm;

/// How long a guest may take to speak of itself before that is left out.
const GUEST: Duration = Duration::from_secs(5);

impl Actor {
    pub(super) fn info(&mut self, reply: Reply<SandboxInfo>) {
        let mut info = self.account();
        let agent = self.agent();
        self.events.spawn(async move {
            if let Some(agent) = agent {
                info.guest = timeout(GUEST, agent.info()).await.ok().and_then(|answer| answer.ok());
            }
            let _ = reply.send(Ok(info));
            Event::Answered
        });
    }

    pub(super) fn kernel_log(&mut self, reply: Reply<Vec<u8>>) {
        let (agent, console) = (self.agent(), self.setup.folder.console_log());
        self.events.spawn(async move {
            let from_agent = match agent {
                Some(agent) => timeout(GUEST, agent.kernel_log()).await.ok().and_then(|answer| answer.ok()),
                None => None,
            };
            let log = from_agent.or_else(|| fs::read(console).ok()).unwrap_or_default();
            let _ = reply.send(Ok(log));
            Event::Answered
        });
    }

    /// What is known without the guest.
    fn account(&self) -> SandboxInfo {
        SandboxInfo {
            vmm_pid: self.state.vmm().map_or(0, |vmm| vmm.pid()),
            paused: self.state.vmm().is_some_and(Vmm::is_paused),
            vcpus: self.setup.options.vcpus,
            memory_mib: self.setup.options.memory_mib,
            allowance: self.setup.options.allowance,
            containers: self.tasks.keys().cloned().collect(),
            vm_failure: self.vm_end().filter(|end| !end.is_orderly()),
            guest: None,
            timeline: self.setup.timeline.points(),
        }
    }

    /// Boots the VM if nothing has yet.
    pub(super) fn ready(&mut self, reply: Reply<SandboxInfo>) {
        if let SandboxState::Idle = self.state {
            self.boot();
        }
        let (mut booted, mut info) = (self.booted.subscribe(), self.account());
        self.events.spawn(async move {
            let outcome = booted.wait_for(Option::is_some).await.ok().and_then(|booted| booted.clone());
            let answer = match outcome {
                Some(Ok(vm)) => {
                    info.vmm_pid = vm.vmm.pid();
                    info.guest = vm.agent.info().await.ok();
                    Ok(info)
                }
                Some(Err(error)) => Err(Error::Boot(error)),
                None => Err(Error::Gone),
            };
            let _ = reply.send(answer);
            Event::Answered
        });
    }

    pub(super) fn metrics(&mut self, reply: Reply<SandboxMetrics>) {
        let (agent, vmm) = (self.agent(), self.state.vmm().cloned());
        self.events.spawn(async move {
            let mut metrics = SandboxMetrics::default();
            if let Some(vmm) = vmm {
                metrics.vmm_pid = vmm.pid();
                metrics.vm = vmm.stats().await.unwrap_or_default();
            }
            if let Some(agent) = agent {
                let (guest, files) = tokio::join!(agent.info(), agent.stats_of_all());
                metrics.guest = guest.ok();
                metrics.files = files.unwrap_or_default();
            }
            let _ = reply.send(Ok(metrics));
            Event::Answered
        });
    }

    pub(super) fn ping(&mut self, reply: Reply<()>) {
        self.with_vm(Wish::AskGuest, reply, |vm| async move {
            let late = AgentError::TimedOut { call: "Info", limit: LONGEST_PING };
            match timeout(LONGEST_PING, vm.agent.info()).await.unwrap_or(Err(late)) {
                Ok(_) => Ok(()),
                Err(error) => Err(explain(&vm, error).await),
            }
        });
    }

    pub(super) fn pause(&mut self, reply: Reply<()>) {
        self.with_vm(Wish::HoldStill, reply, |vm| async move { Ok(vm.vmm.pause().await?) });
    }

    pub(super) fn resume(&mut self, reply: Reply<()>) {
        self.with_vm(Wish::HoldStill, reply, |vm| async move {
            vm.vmm.resume().await?;
            clock::set_right(&*vm.agent).await;
            Ok(())
        });
    }

    /// What cannot be set is not kept either.
    pub(super) fn allow(&mut self, allowance: Allowance, reply: Reply<()>) {
        if let SandboxState::Idle = self.state {
            self.setup.options.allowance = allowance;
            let _ = reply.send(Ok(()));
            return;
        }
        let boots = matches!(self.state, SandboxState::Booting(_));
        if let Err(error) = if boots { Ok(()) } else { self.decide(Wish::AskGuest).map(drop) } {
            let _ = reply.send(Err(error));
            return;
        }
        let mut booted = self.booted.subscribe();
        self.events.spawn(async move {
            let outcome = booted.wait_for(Option::is_some).await.ok().and_then(|booted| booted.clone());
            let refused = match outcome {
                Some(Ok(vm)) => match vm.vmm.busy() {
                    Some(_busy) => match vm.agent.allow(&allowance).await {
                        Ok(()) => return Event::Allowed(allowance, reply),
                        Err(error) => explain(&vm, error).await,
                    },
                    None => SandboxRefusal::Paused.into(),
                },
                Some(Err(error)) => Error::Boot(error),
                None => Error::Gone,
            };
            let _ = reply.send(Err(refused));
            Event::Answered
        });
    }

    /// Does something with the VM, if `wish` may be.
    fn with_vm<Work>(&mut self, wish: Wish, reply: Reply<()>, work: impl FnOnce(Vm) -> Work)
    where
        Work: Future<Output = Result<()>> + Send + 'static,
    {
        match (self.decide(wish), &self.state) {
            (Ok(_), SandboxState::Running(vm)) => {
                let work = work(vm.clone());
                self.events.spawn(async move {
                    let _ = reply.send(work.await);
                    Event::Answered
                });
            }
            (Ok(_), _) => drop(reply.send(Err(Error::Gone))),
            (Err(error), _) => drop(reply.send(Err(error))),
        }
    }
}
