//! The task that owns a container. Every request is checked against the state, done, and answered, in order; ends of
//! processes come in between.

mod execs;
mod reports;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::create::{Creation, explain};
use super::process::{self, Ended, Live, Process, ProcessState, Stage};
use super::state::{self, Phase, TaskRefusal, Verb};
use super::stdio::Opened;
use super::stdio::remote::Remotes;
use super::{AttachPaths, DEATH, Exit, TaskRequest, Which};
use crate::agent::{AgentError, CgroupFiles, Code, Target};
use crate::error::{Error, Result};
use crate::id::{ContainerId, ExecId};
use crate::sandbox::Reply;
use crate::sandbox::boot::Vm;
use crate::sandbox::history::{Created, Happening, History, Subject};
use crate::sandbox::state::SandboxRefusal;
use crate::sandbox::timeline::Timeline;

/// How long init's end is kept back for those of its execs, which die with it.
const LAST_EXECS: Duration = Duration::from_secs(10);
const SIGKILL: u32 = 9;

struct Task {
    id: ContainerId,
    bundle: PathBuf,
    vm: Vm,
    init: Process,
    execs: BTreeMap<ExecId, Process>,
    ends: JoinSet<(Which, Ended)>,
    init_end: Option<HeldEnd>,
    /// Execs that the guest is told to forget; nobody waits for that.
    forgetting: JoinSet<()>,
    /// Execs that are to be forgotten, each with the phase that it is kept in for a while.
    kept: JoinSet<(ExecId, Phase)>,
    keep_guest_state: bool,
    timeline: Timeline,
    history: History,
    remotes: Remotes,
    /// Kills for memory that were told.
    memory_kills: u64,
}

/// Init has ended, and execs that live with it have yet to tell theirs.
struct HeldEnd {
    exit: Exit,
    until: Instant,
}

/// Creates the container, answers `reply`, and serves `inbox` until Delete.
pub async fn run(
    mut creation: Creation,
    reply: Reply<u32>,
    mut inbox: mpsc::Receiver<TaskRequest>,
    init_exit: watch::Sender<Option<Exit>>,
) {
    let mut task = match creation.run().await {
        Ok((vm, mut init)) => {
            init.publish_through(init_exit);
            info!(container = %creation.id, "task created");
            let pid = vm.vmm.pid();
            let task = Task::new(creation, vm, init);
            let _ = reply.send(Ok(pid));
            task
        }
        Err(error) => {
            creation.remotes.release(&creation.io);
            // Requests that waited for a task that never came to be.
            inbox.close();
            let _ = reply.send(Err(error));
            return;
        }
    };
    loop {
        tokio::select! {
            biased;
            Some(Ok((which, ended))) = task.ends.join_next() => task.ended(&which, ended),
            Some(Ok((exec, phase))) = task.kept.join_next() => task.forget_exec(exec, phase),
            () = passed(task.init_end.as_ref().map(|held| held.until)) => task.tell_init_end(),
            request = inbox.recv() => match request {
                None => return,
                Some(TaskRequest::Delete(None, reply)) => match task.delete().await {
                    Ok(answer) => {
                        inbox.close();
                        info!(container = %task.id, "task deleted");
                        task.tell(&None, Happening::Deleted(answer.1));
                        let _ = reply.send(Ok(answer));
                        return;
                    }
                    Err(error) => drop(reply.send(Err(error))),
                },
                Some(request) => task.serve(request).await,
            },
        }
    }
}

impl Task {
    fn new(creation: Creation, vm: Vm, mut init: Process) -> Self {
        let created = Created { bundle: creation.bundle.clone(), rootfs: creation.rootfs, io: creation.io };
        let (id, mut ends) = (creation.id, JoinSet::new());
        watch_end(&mut ends, &vm, &id, None, &mut init);
        let (bundle, execs) = (creation.bundle, BTreeMap::new());
        let (keep_guest_state, timeline) = (creation.keep_guest_state, creation.timeline);
        let (forgetting, kept) = (JoinSet::new(), JoinSet::new());
        let init_end = None;
        let (history, remotes, memory_kills) = (creation.history, creation.remotes, 0);
        let task = Self {
            id,
            bundle,
            vm,
            init,
            execs,
            ends,
            init_end,
            forgetting,
            kept,
            keep_guest_state,
            timeline,
            history,
            remotes,
            memory_kills,
        };
        task.tell(&None, Happening::Created(Arc::new(created)));
        task
    }

    /// Does one request. An asker that went away is no error, so answers that find nobody are dropped.
    async fn serve(&mut self, request: TaskRequest) {
        match request {
            TaskRequest::Start(which, reply) => drop(reply.send(self.start(which).await)),
            TaskRequest::Exec(add, reply) => drop(reply.send(self.add(*add))),
            TaskRequest::State(which, reply) => drop(reply.send(self.report(&which))),
            TaskRequest::Kill { which, signal, all, reply } => {
                drop(reply.send(self.kill(&which, signal, all).await));
            }
            TaskRequest::Pause(reply) => drop(reply.send(self.pause().await)),
            TaskRequest::Resume(reply) => drop(reply.send(self.resume().await)),
            TaskRequest::Resize { which, width, height, reply } => {
                drop(reply.send(self.resize(&which, width, height).await));
            }
            TaskRequest::CloseIo(which, reply) => drop(reply.send(self.close_io(&which))),
            TaskRequest::Update(resources, reply) => drop(reply.send(self.update(resources).await)),
            TaskRequest::Stats(reply) => drop(reply.send(self.stats().await)),
            TaskRequest::Wait(which, reply) => drop(reply.send(self.process(&which).map(Process::watch))),
            TaskRequest::Delete(Some(exec), reply) => drop(reply.send(self.delete_exec(exec).await)),
            // The loop's own, since it ends the loop.
            TaskRequest::Delete(None, _) => {}
            TaskRequest::Attach(which, paths, reply) => drop(reply.send(self.attach(&which, &paths))),
            TaskRequest::Pids(reply) => drop(reply.send(Ok(self.pids()))),
            TaskRequest::OutOfMemory => self.out_of_memory().await,
            TaskRequest::Processes(reply) => drop(reply.send(Ok(self.processes()))),
        }
    }

    async fn start(&mut self, which: Which) -> Result<u32> {
        self.accept(&which, Verb::Start)?;
        let Some(exec) = which else {
            if let Err(error) = self.vm.agent.start(&self.id).await {
                return Err(explain(&self.vm, error).await);
            }
            self.init.enter(Stage::Running);
            self.timeline.mark("task_started");
            self.tell(&None, Happening::Started);
            return Ok(self.vm.vmm.pid());
        };
        let process = self.execs.get_mut(&exec).ok_or_else(|| Error::UnknownExec(exec.clone()))?;
        let ProcessState::Added = process.state else { return Err(Error::UnknownExec(exec)) };
        let (stdio, drain) = Opened::open(&process.io, None, &self.remotes)?.connect(&self.vm.vsock);
        let started =
            self.vm.agent.exec(&self.id, stdio.ids(), process.io.terminal, process.spec.clone()).await;
        let guest_pid = match started {
            Ok(guest_pid) => guest_pid,
            Err(error) => return Err(explain(&self.vm, error).await),
        };
        process.state = ProcessState::Live(Stage::Running, Live { guest_pid, stdio });
        process.drain = Some(drain);
        watch_end(&mut self.ends, &self.vm, &self.id, Some(exec.clone()), process);
        self.tell(&Some(exec), Happening::ExecStarted);
        Ok(self.vm.vmm.pid())
    }

    async fn kill(&self, which: &Which, signal: u32, all: bool) -> Result<()> {
        self.accept(which, Verb::Kill)?;
        let target = match (all, self.process(which)?.guest_pid()) {
            (true, _) => Target::All,
            (false, Some(pid)) => Target::Process(pid),
            (false, None) => return Err(TaskRefusal::AlreadyFinished.into()),
        };
        let killed = self.vm.agent.kill(&self.id, target, signal).await;
        if signal == SIGKILL {
            self.give_up_readers(which, all);
        }
        match killed {
            // It has ended, and is not told to have while its output is on its way.
            Err(AgentError::Refused { code: Code::NotFound, .. }) => Err(TaskRefusal::AlreadyFinished.into()),
            answer => self.told(answer).await,
        }
    }

    /// Whoever kills does not want to wait for somebody who does not read. With init everything dies.
    fn give_up_readers(&self, which: &Which, all: bool) {
        let everyone = all || which.is_none();
        let execs = self.execs.iter().map(|(exec, process)| (Some(exec), process));
        for (exec, process) in execs.chain([(None, &self.init)]) {
            if let ProcessState::Live(_, live) = &process.state
                && (everyone || exec == which.as_ref())
            {
                live.stdio.unwanted();
            }
        }
    }

    async fn pause(&mut self) -> Result<()> {
        self.accept(&None, Verb::Pause)?;
        self.told(self.vm.agent.pause(&self.id).await).await?;
        self.init.enter(Stage::Paused);
        self.tell(&None, Happening::Paused);
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.accept(&None, Verb::Resume)?;
        self.told(self.vm.agent.resume(&self.id).await).await?;
        self.init.enter(Stage::Running);
        self.tell(&None, Happening::Resumed);
        Ok(())
    }

    async fn resize(&self, which: &Which, width: u32, height: u32) -> Result<()> {
        self.accept(which, Verb::Resize)?;
        let process = self.process(which)?;
        match process.guest_pid() {
            Some(pid) if process.io.terminal => {
                self.told(self.vm.agent.resize(&self.id, pid, width, height).await).await
            }
            _ => Ok(()),
        }
    }

    fn close_io(&mut self, which: &Which) -> Result<()> {
        self.accept(which, Verb::CloseIo)?;
        if let Some(live) = self.process_mut(which)?.live_mut() {
            live.stdio.close_input();
        }
        Ok(())
    }

    async fn update(&self, resources: Vec<u8>) -> Result<()> {
        self.accept(&None, Verb::Update)?;
        self.told(self.vm.agent.update(&self.id, resources).await).await
    }

    /// What the guest counts goes with it.
    async fn stats(&self) -> Result<CgroupFiles> {
        self.awake()?;
        tokio::select! {
            biased;
            end = self.vm.vmm.ended() => Err(Error::VmEnded(end)),
            files = self.vm.agent.stats(&self.id) => match files {
                Ok(files) => Ok(files),
                Err(error) => Err(explain(&self.vm, error).await),
            },
        }
    }

    fn attach(&mut self, which: &Which, paths: &AttachPaths) -> Result<bool> {
        self.accept(which, Verb::Attach)?;
        let process = self.process_mut(which)?;
        if let Some(live) = process.live_mut() {
            live.stdio.attach(paths)?;
        }
        Ok(process.io.terminal)
    }

    /// Forgets the task, in the guest too. What the guest fails to tidy up is logged: the task is gone all the same.
    async fn delete(&mut self) -> Result<(u32, Exit)> {
        self.accept(&None, Verb::Delete)?;
        if self.init.phase() == Phase::Created {
            self.kill(&None, SIGKILL, true).await?;
            let dead = async {
                while self.init.exit().is_none() {
                    match self.ends.join_next().await {
                        Some(Ok((which, ended))) => self.stopped(&which, ended.exit),
                        _ => break,
                    }
                }
            };
            if timeout(DEATH, dead).await.is_err() {
                warn!(container = %self.id, "init does not die");
            }
        }
        let exit = self.init.exit().ok_or(TaskRefusal::NotNow { verb: "delete", state: "does not end" })?;
        if self.keep_guest_state && self.vm.vmm.end().is_none() {
            let tidied = async {
                self.vm.agent.delete(&self.id, None).await?;
                self.vm.agent.release(&self.id).await
            };
            if let Err(error) = tidied.await {
                warn!(container = %self.id, %error, "the guest keeps something of a deleted task");
            }
        }
        for process in self.execs.values().chain([&self.init]) {
            self.remotes.release(&process.io);
        }
        Ok((self.vm.vmm.pid(), exit))
    }

    /// A process has ended. Init's end is told last: who hears of it takes the whole task for over.
    fn ended(&mut self, which: &Which, Ended { exit, memory_kills }: Ended) {
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

    fn tell_init_end(&mut self) {
        if let Some(HeldEnd { exit, .. }) = self.init_end.take() {
            self.stopped(&None, exit);
        }
    }

    fn stopped(&mut self, which: &Which, exit: Exit) {
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

    /// Everybody who follows the sandbox hears of it, before whoever asked for it gets an answer.
    fn tell(&self, which: &Which, happening: Happening) {
        let guest_pid = self.process(which).map_or(0, Process::guest_pid_ever);
        let subject = Subject {
            container: Some(self.id.clone()),
            exec: which.clone(),
            pid: if guest_pid == 0 { 0 } else { self.vm.vmm.pid() },
            guest_pid,
        };
        self.history.record(subject, happening);
    }

    /// `count` is of the container's whole life: what is new of it is told once.
    fn tell_memory_kills(&mut self, count: u64) {
        if count > self.memory_kills {
            self.memory_kills = count;
            self.tell(&None, Happening::OutOfMemory);
        }
    }

    /// The guest has run out of memory: how often, its counters tell.
    async fn out_of_memory(&mut self) {
        if let Ok(files) = self.vm.agent.stats(&self.id).await {
            self.tell_memory_kills(process::memory_kills(&files));
        }
    }

    fn awake(&self) -> Result<()> {
        match self.vm.vmm.is_paused() {
            true => Err(SandboxRefusal::Paused.into()),
            false => Ok(()),
        }
    }

    fn accept(&self, which: &Which, verb: Verb) -> Result<()> {
        if verb.needs_guest() {
            self.awake()?;
        }
        let init = self.init.phase();
        match which {
            None => state::accept_init(init, verb)?,
            Some(_) => state::accept_exec(init, self.process(which)?.phase(), verb)?,
        }
        Ok(())
    }

    fn process(&self, which: &Which) -> Result<&Process> {
        match which {
            None => Ok(&self.init),
            Some(exec) => self.execs.get(exec).ok_or_else(|| Error::UnknownExec(exec.clone())),
        }
    }

    fn process_mut(&mut self, which: &Which) -> Result<&mut Process> {
        match which {
            None => Ok(&mut self.init),
            Some(exec) => self.execs.get_mut(exec).ok_or_else(|| Error::UnknownExec(exec.clone())),
        }
    }

    async fn told(&self, answer: std::result::Result<(), AgentError>) -> Result<()> {
        match answer {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&self.vm, error).await),
        }
    }
}

/// Answers at a moment; without one never.
async fn passed(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn watch_end(
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
