//! The task that owns a container. Every request is checked against the state, done, and answered, in order; ends of
//! processes come in between, and so does the start of an exec, which is not waited for.

mod ends;
mod execs;
mod reports;
mod verbs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

use self::ends::{HeldEnd, passed, watch_end};
use super::create::Creation;
use super::process::{Ended, Process};
use super::state::{self, Phase, Verb};
use super::stdio::remote::Remotes;
use super::{Exit, TaskRequest, Which};
use crate::error::{Error, Result};
use crate::id::{ContainerId, ExecId};
use crate::sandbox::Reply;
use crate::sandbox::boot::Vm;
use crate::sandbox::history::{Created, Happening, History, Subject};
use crate::sandbox::state::SandboxRefusal;
use crate::sandbox::timeline::Timeline;

struct Task {
    id: ContainerId,
    bundle: PathBuf,
    vm: Vm,
    init: Process,
    execs: BTreeMap<ExecId, Process>,
    /// Execs that the guest starts, with those who wait for that.
    starting: JoinSet<(ExecId, Reply<u32>, Result<u32>)>,
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
    /// There was one while the guest stood still.
    memory_is_unread: bool,
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
            Some(Ok((exec, reply, started))) = task.starting.join_next() => {
                task.exec_started(exec, reply, started);
            }
            Some(Ok((which, ended))) = task.ends.join_next() => task.ended(&which, ended),
            Some(Ok((exec, phase))) = task.kept.join_next() => task.forget_exec(exec, phase),
            () = passed(task.init_end.as_ref().map(|held| held.until)) => task.tell_init_end(),
            request = inbox.recv() => match request {
                None => return,
                Some(TaskRequest::Delete(None, reply)) => match task.delete_undisturbed().await {
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
        let (starting, forgetting, kept) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        let init_end = None;
        let (history, remotes, memory_kills) = (creation.history, creation.remotes, 0);
        let task = Self {
            id,
            bundle,
            vm,
            init,
            execs,
            starting,
            ends,
            init_end,
            forgetting,
            kept,
            keep_guest_state,
            timeline,
            history,
            remotes,
            memory_kills,
            memory_is_unread: false,
        };
        task.tell(&None, Happening::Created(Arc::new(created)));
        task
    }

    /// Does one request. An asker that went away is no error, so answers that find nobody are dropped.
    async fn serve(&mut self, request: TaskRequest) {
        // What needs a guest that stands still is refused below; a pause comes after what does not.
        let _busy = self.vm.vmm.busy();
        if self.memory_is_unread {
            self.out_of_memory().await;
        }
        match request {
            TaskRequest::Start(None, reply) => drop(reply.send(self.start_init().await)),
            TaskRequest::Start(Some(exec), reply) => self.start_exec(exec, reply),
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
}
