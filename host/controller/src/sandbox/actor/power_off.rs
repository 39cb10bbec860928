//! The orderly end of a VM: its containers are asked first. That may take as long as somebody had patience, so the actor
//! goes on answering meanwhile, and whoever has less patience ends it sooner: by another Shutdown, or by a Kill, which goes
//! to the guest as ever.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{Actor, Event};
use crate::agent::AgentError;
use crate::sandbox::boot::Vm;
use crate::sandbox::state::SandboxRefusal;
use crate::sandbox::{Reply, Request, Shutdown};

/// Containers' grace in an orderly shutdown that names none.
const GRACE: Duration = Duration::from_millis(500);
/// Most that one can name.
const LONGEST_GRACE: Duration = Duration::from_secs(3600);
/// Bound of a whole orderly shutdown, beside the grace.
const ORDERLY: Duration = Duration::from_secs(10);

/// The grace that containers get.
pub fn bounded(grace: Option<Duration>) -> Duration {
    grace.map_or(GRACE, |grace| grace.min(LONGEST_GRACE))
}

/// What the guest was asked for.
struct Asked {
    /// When the containers' grace is over.
    until: Instant,
    /// The guest's answers: one for each time that it was asked.
    answers: JoinSet<Result<(), AgentError>>,
    /// It has ended all containers.
    agreed: bool,
}

impl Actor {
    /// Returns when the guest has powered off, or will not. Whoever asks for the same end joins `waiting`.
    pub(super) async fn power_off(&mut self, vm: Vm, grace: Duration, waiting: &mut Vec<Reply<()>>) {
        let mut asked = Asked { until: Instant::now() + grace, answers: JoinSet::new(), agreed: false };
        asked.answers.spawn(ask(vm.clone(), grace));
        let ended = vm.vmm.clone();
        let ended = ended.ended();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                end = &mut ended => return self.vm_ended(end),
                Some(answer) = asked.answers.join_next() => match answer {
                    // Its VM ends next.
                    Ok(Ok(())) => asked.agreed = true,
                    Ok(Err(_)) if asked.agreed => {}
                    Ok(Err(error)) => return warn!(%error, "the guest did not shut down and is killed"),
                    Err(lost) => return warn!(%lost, "the guest was not asked to shut down and is killed"),
                },
                () = sleep_until(asked.until + ORDERLY) => {
                    return warn!("the guest took too long to shut down and is killed");
                }
                Some(event) = self.events.join_next() => match event {
                    Ok(event) => self.happened_at_the_end(event, &vm, &mut asked),
                    Err(lost) => warn!(%lost, "a part of the keeper failed"),
                },
                Some(request) = self.inbox.recv() => {
                    self.serve_at_the_end(request, &vm, &mut asked, waiting);
                }
            }
        }
    }

    fn serve_at_the_end(
        &mut self,
        request: Request,
        vm: &Vm,
        asked: &mut Asked,
        waiting: &mut Vec<Reply<()>>,
    ) {
        match request {
            Request::Create(_, reply) => drop(reply.send(Err(SandboxRefusal::Ending.into()))),
            Request::Pause(reply) | Request::Allow(_, reply) => {
                drop(reply.send(Err(SandboxRefusal::Ending.into())))
            }
            Request::Shutdown { how, reply } => {
                if let Shutdown::Whole { grace } = how {
                    asked.within(vm, bounded(grace));
                }
                waiting.push(reply);
            }
            Request::Terminate => asked.within(vm, GRACE),
            request @ (Request::Find(..)
            | Request::Info(_)
            | Request::KernelLog(_)
            | Request::Ready(_)
            | Request::Metrics(_)
            | Request::Ping(_)
            | Request::Resume(_)) => drop(self.serve(request)),
        }
    }

    fn happened_at_the_end(&mut self, event: Event, vm: &Vm, asked: &mut Asked) {
        match event {
            Event::ParentEnded => asked.within(vm, Duration::ZERO),
            Event::BundleRead(read) => self.not_made(read.asked, SandboxRefusal::Ending.into()),
            // Nothing new: its end is what was asked for, and who asked will collect what there is.
            Event::AgentLost | Event::InitEnded(_) | Event::Uncollected | Event::Unused => {}
            event @ (Event::Booted(_)
            | Event::VmEnded(_)
            | Event::TaskGone(..)
            | Event::OutOfMemory(..)
            | Event::Allowed(..)
            | Event::ClockDue
            | Event::Answered) => drop(self.handle(event)),
        }
    }
}

impl Asked {
    /// Somebody has only so much patience left. More than the others have changes nothing.
    fn within(&mut self, vm: &Vm, grace: Duration) {
        let until = Instant::now() + grace;
        if until < self.until {
            self.until = until;
            self.answers.spawn(ask(vm.clone(), grace));
        }
    }
}

async fn ask(vm: Vm, grace: Duration) -> Result<(), AgentError> {
    if vm.vmm.is_paused() {
        vm.vmm.resume().await.map_err(|error| AgentError::Unreachable(error.to_string()))?;
    }
    vm.agent.shutdown(grace).await
}
