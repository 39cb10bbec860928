//! Processes that are added to a container, until they are forgotten.

use std::collections::btree_map::Entry;
use std::time::Duration;

use tokio::time::sleep;
use tracing::debug;

use super::Task;
use super::ends::watch_end;
use crate::bundle;
use crate::error::{Error, Result};
use crate::id::ExecId;
use crate::sandbox::Reply;
use crate::sandbox::history::Happening;
use crate::task::create::explain;
use crate::task::process::{Live, Process, ProcessState, Stage};
use crate::task::state::{Phase, Verb};
use crate::task::stdio::Opened;
use crate::task::{AddProcess, Exit, Kept, room};

/// How long the end of an exec can be asked for that is forgotten by itself: long enough for a request that was under way.
const ENDED: Duration = Duration::from_secs(2);
/// How long one of those may take to be started.
const UNSTARTED: Duration = Duration::from_secs(60);

impl Task {
    pub(super) fn add(&mut self, add: AddProcess) -> Result<()> {
        self.accept(&None, Verb::Exec)?;
        let spec = bundle::guest_process(&add.spec, add.io.terminal)?;
        if self.execs.contains_key(&add.exec) {
            return Err(Error::ExecExists(add.exec));
        }
        let process = Process::added(add.io, spec, add.kept);
        room::check(self.execs.values(), &process)?;
        if add.kept == Kept::ForAWhile {
            self.keep_for(UNSTARTED, &add.exec, Phase::Added);
        }
        self.execs.insert(add.exec.clone(), process);
        self.tell(&Some(add.exec), Happening::ExecAdded);
        Ok(())
    }

    /// Has the guest start it, and does not wait for that: the container can hold it up. [`Task::exec_started`] answers `reply`.
    pub(super) fn start_exec(&mut self, exec: ExecId, reply: Reply<u32>) {
        let asked = self.ask_to_start(&exec);
        match asked {
            Ok(answer) => drop(self.starting.spawn(async move { (exec, reply, answer.await) })),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn ask_to_start(&mut self, exec: &ExecId) -> Result<impl Future<Output = Result<u32>> + Send + use<>> {
        self.accept(&Some(exec.clone()), Verb::Start)?;
        let process = self.execs.get_mut(exec).ok_or_else(|| Error::UnknownExec(exec.clone()))?;
        let (stdio, drain) = Opened::open(&process.io, None, &self.remotes)?.connect(&self.vm.vsock);
        let (ids, terminal, spec) = (stdio.ids(), process.io.terminal, process.spec.clone());
        process.state = ProcessState::Starting(stdio);
        process.drain = Some(drain);
        let (vm, id, busy) = (self.vm.clone(), self.id.clone(), self.vm.vmm.busy());
        Ok(async move {
            let _busy = busy;
            match vm.agent.exec(&id, ids, terminal, spec).await {
                Ok(guest_pid) => Ok(guest_pid),
                Err(error) => Err(explain(&vm, error).await),
            }
        })
    }

    /// The guest has started it, or has not: then it can be tried again.
    pub(super) fn exec_started(&mut self, exec: ExecId, reply: Reply<u32>, started: Result<u32>) {
        let Some(process) = self.execs.get_mut(&exec) else { return };
        let state = std::mem::replace(&mut process.state, ProcessState::Added);
        let answer = match (started, state) {
            (Ok(guest_pid), ProcessState::Starting(stdio)) => {
                process.state = ProcessState::Live(Stage::Running, Live { guest_pid, stdio });
                process.spec = bundle::description(&process.spec);
                watch_end(&mut self.ends, &self.vm, &self.id, Some(exec.clone()), process);
                self.tell(&Some(exec), Happening::ExecStarted);
                Ok(self.vm.vmm.pid())
            }
            (started, _) => {
                process.drain = None;
                if process.kept == Kept::ForAWhile {
                    self.keep_for(UNSTARTED, &exec, Phase::Added);
                }
                started
            }
        };
        // Whoever asked may be gone.
        let _ = reply.send(answer);
        if !self.has_live_execs() {
            self.tell_init_end();
        }
    }

    pub(super) async fn delete_exec(&mut self, exec: ExecId) -> Result<(u32, Exit)> {
        let which = Some(exec);
        self.accept(&which, Verb::Delete)?;
        // One that was never started has nothing to tell.
        let never = Exit { status: 0, at: std::time::SystemTime::UNIX_EPOCH };
        let process = self.process(&which)?;
        let exit = process.exit().unwrap_or(never);
        self.remotes.release(&process.io);
        self.tell(&which, Happening::Deleted(exit));
        self.execs.retain(|exec, _| Some(exec) != which.as_ref());
        Ok((self.vm.vmm.pid(), exit))
    }

    /// An exec has ended: the guest need not keep its status, and perhaps nobody will ask for it here.
    pub(super) fn exec_stopped(&mut self, exec: &ExecId, guest_pid: Option<u32>) {
        let (agent, id) = (self.vm.agent.clone(), self.id.clone());
        self.forgetting.spawn(async move {
            if let Err(error) = agent.delete(&id, guest_pid).await {
                debug!(container = %id, %error, "the guest keeps the status of an exec");
            }
        });
        while self.forgetting.try_join_next().is_some() {}
        if self.execs.get(exec).is_some_and(|process| process.kept == Kept::ForAWhile) {
            self.keep_for(ENDED, exec, Phase::Stopped);
        }
    }

    fn keep_for(&mut self, time: Duration, exec: &ExecId, phase: Phase) {
        let exec = exec.clone();
        self.kept.spawn(async move {
            sleep(time).await;
            (exec, phase)
        });
    }

    /// Forgets an exec that still stands where it was to be kept for a while.
    pub(super) fn forget_exec(&mut self, exec: ExecId, phase: Phase) {
        if let Entry::Occupied(kept) = self.execs.entry(exec)
            && kept.get().kept == Kept::ForAWhile
            && kept.get().phase() == phase
        {
            let (exec, process) = kept.remove_entry();
            self.remotes.release(&process.io);
            debug!(container = %self.id, %exec, ?phase, "exec forgotten");
        }
    }

    /// Whether an exec runs or may come to run.
    pub(super) fn has_live_execs(&self) -> bool {
        let lives = |exec: &Process| matches!(exec.state, ProcessState::Starting(_) | ProcessState::Live(..));
        self.execs.values().any(lives)
    }
}
