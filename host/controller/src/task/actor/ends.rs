//! Ends of processes, and kills for memory: what happens to a container without being asked for.

use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};
use tracing::{debug, info};

use super::Task;
use super::verbs::SIGKILL;
use crate::agent::Target;
use crate::id::{ContainerId, ExecId};
use crate::sandbox::boot::Vm;
use crate::sandbox::history::Happening;
use crate::task::process::{self, Ended, Process};
use crate::task::{Exit, Which};

/// How long init's end is kept back for those of its execs, which die with it.
const LAST_EXECS: Duration = Duration::from_secs(10);

/// Init has ended, and execs that live with it have yet to tell theirs.
pub(super) struct HeldEnd {
    exit: Exit,
    pub(super) until: Instant,
}

impl Task {
    /// A process has ended. Init's end is told last: who hears of it takes the whole task for over.
    pub(super) fn ended(&mut self, which: &Which, Ended { exit, memory_kills }: Ended) {
        self.tell_memory_kills(memory_kills);
        if which.is_some() || !self.has_live_execs() {
            self.stopped(which, exit);
        } else {
            self.init_end = Some(HeldEnd { exit, until: Instant::now() + LAST_EXECS });
            // The kernel has done so, unless the container shares the guest's pid namespace.
            let (agent, id) = (self.vm.agent.clone(), self.id.clone());
            self.forgetting.spawn(async move {
                if let Err(error) = agent.kill(&id, Target::All, SIGKILL).await {
                    debug!(container = %id, %error, "nothing was left to kill");
                }
            });
        }
        if !self.has_live_execs() {
            self.tell_init_end();
        }
    }

    pub(super) fn tell_init_end(&mut self) {
        if let Some(HeldEnd { exit, .. }) = self.init_end.take() {
            self.stopped(&None, exit);
        }
    }

    pub(super) fn stopped(&mut self, which: &Which, exit: Exit) {
        info!(container = %self.id, exec = which.as_ref().map(ExecId::as_str), status = exit.status, "process ended");
        if self.process(which).is_err() {
            return;
        }
        self.tell(which, Happening::Exited(exit));
        let Ok(process) = self.process_mut(which) else { return };
        let guest_pid = process.guest_pid();
        process.stop(exit);
        if let Some(exec) = which {
            self.exec_stopped(exec, guest_pid);
        }
    }

    /// `count` is of the container's whole life: what is new of it is told once.
    pub(super) fn tell_memory_kills(&mut self, count: u64) {
        if count > self.memory_kills {
            self.memory_kills = count;
            self.tell(&None, Happening::OutOfMemory);
        }
    }

    /// The guest has run out of memory: how often, its counters tell.
    pub(super) async fn out_of_memory(&mut self) {
        self.memory_is_unread = self.awake().is_err();
        if !self.memory_is_unread
            && let Ok(files) = self.vm.agent.stats(&self.id).await
        {
            self.tell_memory_kills(process::memory_kills(&files));
        }
    }
}

/// Answers at a moment; without one never.
pub(super) async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Has the end of a process that exists told through `ends`.
pub(super) fn watch_end(
    ends: &mut JoinSet<(Which, Ended)>,
    vm: &Vm,
    id: &ContainerId,
    which: Which,
    process: &mut Process,
) {
    if let Some(guest_pid) = process.guest_pid() {
        let ended = process::ended(vm.clone(), id.clone(), guest_pid, process.drain.take());
        ends.spawn(async move { (which, ended.await) });
    }
}
