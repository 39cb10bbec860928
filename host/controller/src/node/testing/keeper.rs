//! One keeper: the real one's state table ([`crate::task::state`]) over values, and levers for what only a machine does.

mod levers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::process::{Proc, Task};
use crate::id::{ContainerId, ExecId};
use crate::node::Kind;
use crate::node::keeper::{
    Answer, Happened, Happening, Info, Keeper, KeeperError, NewTask, Page, ProcessReport, Sample, Usage,
};
use crate::node::values::{Exit, Io, Payload};
use crate::sandbox::allowance::Allowance;
use crate::task::state::{self as table, TaskRefusal, Verb};

/// How long an added process that is to be forgotten is known after its end.
const ENDED: Duration = Duration::from_secs(2);
/// Events that are kept.
const KEPT: usize = 4096;

/// A keeper.
pub struct FakeKeeper {
    state: Mutex<State>,
    next: watch::Sender<u64>,
    broken: Mutex<BTreeSet<&'static str>>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<ContainerId, Task>,
    /// Those that are being created for whoever has gone meanwhile.
    coming: BTreeSet<ContainerId>,
    events: Vec<Happening>,
    pids: u32,
    gone: bool,
    vm_over: bool,
    frozen: bool,
    silent: bool,
    stuck: bool,
    allowance: Allowance,
}

impl FakeKeeper {
    /// One whose `broken` calls fail.
    pub fn new(broken: BTreeSet<&'static str>, allowance: Allowance) -> Self {
        let state = Mutex::new(State { allowance, ..State::default() });
        Self { state, next: watch::Sender::new(1), broken: Mutex::new(broken) }
    }

    fn is_broken(&self, call: &str) -> bool {
        self.broken.lock().unwrap().contains(call)
    }

    fn end(&self, state: &mut State, id: &ContainerId, exec: Option<&ExecId>, status: u32) {
        let Some(task) = state.tasks.get_mut(id) else { return };
        let exit = Exit { status, at: SystemTime::now() };
        let mut ends = Vec::new();
        for (name, proc) in &mut task.execs {
            if exec.is_none_or(|exec| exec == name) && proc.phase == table::Phase::Running {
                (proc.phase, proc.exit) = (table::Phase::Stopped, Some(exit));
                proc.gone_at = proc.forget.then(|| Instant::now() + ENDED);
                ends.push((Some(name.clone()), proc.pid));
            }
        }
        if exec.is_none() && task.init.phase != table::Phase::Stopped {
            (task.init.phase, task.init.exit) = (table::Phase::Stopped, Some(exit));
            ends.push((None, task.init.pid));
        }
        for (exec, pid) in ends {
            self.tell(state, Some(id), exec, pid, Happened::Exited(exit));
        }
    }

    fn tell(
        &self,
        state: &mut State,
        container: Option<&ContainerId>,
        exec: Option<ExecId>,
        pid: u32,
        what: Happened,
    ) {
        let number = state.events.last().map_or(1, |last| last.number + 1);
        state.events.push(Happening { number, container: container.cloned(), exec, pid, what });
        if state.events.len() > KEPT {
            state.events.remove(0);
        }
        self.next.send_replace(number + 1);
    }

    fn state(&self, asked: &'static str) -> Answer<MutexGuard<'_, State>> {
        if self.is_broken(asked) {
            return Err(refused(Kind::Internal, "it is broken"));
        }
        let mut state = self.state.lock().unwrap();
        for task in state.tasks.values_mut() {
            task.execs.retain(|_, proc| proc.gone_at.is_none_or(|at| Instant::now() < at));
        }
        if state.gone { Err(KeeperError::Gone { asked }) } else { Ok(state) }
    }

    /// What needs the guest.
    fn guest(&self, asked: &'static str) -> Answer<MutexGuard<'_, State>> {
        let state = self.state(asked)?;
        match (state.vm_over, state.frozen) {
            (true, _) => Err(refused(Kind::Unavailable, "the sandbox's VM has ended")),
            (_, true) => Err(refused(Kind::FailedPrecondition, "the sandbox is paused")),
            _ => Ok(state),
        }
    }
}

impl State {
    fn accept(&self, id: &ContainerId, exec: Option<&ExecId>, verb: Verb) -> Answer<()> {
        let task = self.tasks.get(id).ok_or_else(unknown)?;
        let decided = match exec {
            None => table::accept_init(task.init.phase, verb),
            Some(exec) => {
                let proc = task.execs.get(exec).ok_or_else(|| refused(Kind::NotFound, "no such process"))?;
                table::accept_exec(task.init.phase, proc.phase, verb)
            }
        };
        decided.map_err(|refusal| match refusal {
            TaskRefusal::AlreadyFinished => refused(Kind::NotFound, &refusal.to_string()),
            _ => refused(Kind::FailedPrecondition, &refusal.to_string()),
        })
    }

    fn task(&mut self, id: &ContainerId) -> Answer<&mut Task> {
        self.tasks.get_mut(id).ok_or_else(unknown)
    }

    fn pid(&mut self) -> u32 {
        self.pids += 1;
        self.pids + 100
    }
}

fn unknown() -> KeeperError {
    refused(Kind::NotFound, "container not created")
}

fn refused(kind: Kind, message: &str) -> KeeperError {
    KeeperError::Refused { kind, message: message.to_owned() }
}

#[async_trait]
impl Keeper for FakeKeeper {
    async fn create(&self, new: NewTask) -> Answer<()> {
        if self.is_broken("boot") {
            self.vm_dies("no machine today");
            // Whoever waits for the VM hears of it a moment later than whoever follows the events.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return match self.is_gone() {
                true => Err(refused(Kind::Unavailable, "the sandbox is gone")),
                false => Err(refused(Kind::Internal, "the sandbox's VM did not start: no machine today")),
            };
        }
        self.pause_for("slow-create").await;
        let mut state = self.guest("create")?;
        if state.tasks.contains_key(&new.container) {
            return Err(refused(Kind::AlreadyExists, "it exists"));
        }
        let pid = state.pid();
        let init = Proc::new(pid, table::Phase::Created, new.io);
        state.coming.remove(&new.container);
        state.tasks.insert(new.container.clone(), Task { init, execs: BTreeMap::new() });
        self.tell(&mut state, Some(&new.container), None, pid, Happened::Created { bundle: new.bundle });
        Ok(())
    }

    async fn start(&self, id: &ContainerId, exec: Option<&ExecId>) -> Answer<()> {
        let mut state = self.guest("start")?;
        state.accept(id, exec, Verb::Start)?;
        let fresh = state.pid();
        let task = state.task(id)?;
        let (proc, what) = match exec {
            None => (Some(&mut task.init), Happened::Started),
            Some(exec) => (task.execs.get_mut(exec), Happened::ExecStarted),
        };
        let Some(proc) = proc else { return Err(unknown()) };
        proc.phase = table::Phase::Running;
        proc.pid = if exec.is_some() { fresh } else { proc.pid };
        let pid = proc.pid;
        self.tell(&mut state, Some(id), exec.cloned(), pid, what);
        Ok(())
    }

    async fn exec(&self, id: &ContainerId, exec: &ExecId, spec: Vec<u8>, io: Io, forget: bool) -> Answer<()> {
        let mut state = self.guest("exec")?;
        state.accept(id, None, Verb::Exec)?;
        if state.task(id)?.execs.contains_key(exec) {
            return Err(refused(Kind::AlreadyExists, "it exists"));
        }
        state.task(id)?.execs.insert(exec.clone(), Proc { forget, ..Proc::added(&spec, io) });
        self.tell(&mut state, Some(id), Some(exec.clone()), 0, Happened::ExecAdded);
        Ok(())
    }

    async fn kill(&self, id: &ContainerId, exec: Option<&ExecId>, signal: u32, all: bool) -> Answer<()> {
        let mut state = self.guest("kill")?;
        state.accept(id, exec, Verb::Kill)?;
        if signal == 9 || signal == 15 {
            let exec = exec.filter(|_| !all);
            self.end(&mut state, id, exec, 128 + signal);
        }
        Ok(())
    }

    async fn delete(&self, id: &ContainerId, exec: Option<&ExecId>) -> Answer<Exit> {
        let mut state = self.state("delete")?;
        if state.frozen && !state.vm_over {
            return Err(refused(Kind::FailedPrecondition, "the sandbox is paused"));
        }
        state.accept(id, exec, Verb::Delete)?;
        let Some(exec) = exec else {
            self.end(&mut state, id, None, 137);
            let task = state.tasks.remove(id).ok_or_else(unknown)?;
            let exit = task.init.exit.ok_or_else(unknown)?;
            self.tell(&mut state, Some(id), None, task.init.pid, Happened::Deleted(exit));
            return Ok(exit);
        };
        let proc = state.task(id)?.execs.remove(exec).ok_or_else(unknown)?;
        let exit = proc.exit.unwrap_or(Exit { status: 137, at: SystemTime::now() });
        self.tell(&mut state, Some(id), Some(exec.clone()), proc.pid, Happened::Deleted(exit));
        Ok(exit)
    }

    async fn processes(&self, id: &ContainerId) -> Answer<Vec<ProcessReport>> {
        self.has_come(id).await;
        let mut state = self.state("processes")?;
        let task = state.task(id)?;
        let execs = task.execs.iter().map(|(exec, proc)| proc.report(Some(exec.clone())));
        Ok(std::iter::once(task.init.report(None)).chain(execs).collect())
    }

    async fn pause(&self, id: &ContainerId) -> Answer<()> {
        let mut state = self.guest("pause")?;
        state.accept(id, None, Verb::Pause)?;
        state.task(id)?.init.phase = table::Phase::Paused;
        self.tell(&mut state, Some(id), None, 0, Happened::Paused);
        Ok(())
    }

    async fn resume(&self, id: &ContainerId) -> Answer<()> {
        let mut state = self.guest("resume")?;
        state.accept(id, None, Verb::Resume)?;
        state.task(id)?.init.phase = table::Phase::Running;
        self.tell(&mut state, Some(id), None, 0, Happened::Resumed);
        Ok(())
    }

    async fn resize(&self, id: &ContainerId, exec: Option<&ExecId>, _: u32, _: u32) -> Answer<()> {
        self.guest("resize")?.accept(id, exec, Verb::Resize)
    }

    async fn close_io(&self, id: &ContainerId, exec: Option<&ExecId>) -> Answer<()> {
        self.state("close_io")?.accept(id, exec, Verb::CloseIo)
    }

    async fn update(&self, id: &ContainerId, _: Vec<u8>) -> Answer<()> {
        self.guest("update")?.accept(id, None, Verb::Update)
    }

    async fn stats(&self, id: &ContainerId) -> Answer<Sample> {
        let mut state = self.guest("stats")?;
        let pid = state.task(id)?.init.pid;
        let metrics = Payload { type_url: "fake".into(), value: pid.to_string().into_bytes() };
        Ok(Sample { at: SystemTime::now(), metrics })
    }

    async fn info(&self) -> Answer<Info> {
        let (allowance, paused, containers) = {
            let state = self.state("info")?;
            let containers = state.tasks.keys().chain(&state.coming).cloned().collect();
            (state.allowance, state.frozen, containers)
        };
        let kernel_release = "6.12".into();
        Ok(Info {
            keeper_pid: 10,
            vmm_pid: 11,
            vcpus: 1,
            memory_mib: 256,
            kernel_release,
            paused,
            allowance,
            containers,
            ..Info::default()
        })
    }

    async fn kernel_log(&self) -> Answer<Vec<u8>> {
        drop(self.state("kernel_log")?);
        Ok(b"Linux".to_vec())
    }

    async fn ready(&self) -> Answer<Info> {
        drop(self.guest("ready")?);
        self.pause_for("slow-ready").await;
        self.info().await
    }

    async fn ping(&self) -> Answer<()> {
        let silent = self.guest("ping")?.silent;
        if silent { Err(refused(Kind::DeadlineExceeded, "no answer")) } else { Ok(()) }
    }

    async fn freeze(&self) -> Answer<()> {
        self.state("freeze")?.frozen = true;
        self.pause_for("slow-freeze").await;
        Ok(())
    }

    async fn thaw(&self) -> Answer<()> {
        self.state("thaw")?.frozen = false;
        Ok(())
    }

    async fn allow(&self, allowance: Allowance) -> Answer<()> {
        self.guest("allow")?.allowance = allowance;
        Ok(())
    }

    async fn usage(&self) -> Answer<Usage> {
        drop(self.guest("usage")?);
        Ok(Usage { vmm_resident_bytes: 1 << 20, ..Usage::default() })
    }

    async fn events(&self, from: u64, patience: Duration) -> Answer<Page> {
        let stuck = self.state.lock().unwrap().stuck;
        if stuck {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        let mut next = self.next.subscribe();
        let _ = timeout(patience, next.wait_for(|next| *next > from || self.is_gone())).await;
        let state = self.state.lock().unwrap();
        let events: Vec<_> =
            state.events.iter().filter(|event| event.number >= from).take(256).cloned().collect();
        if events.is_empty() && state.gone {
            return Err(KeeperError::Gone { asked: "tell its events" });
        }
        let lost = state.events.first().map_or(1, |event| event.number).saturating_sub(from);
        let next = events.last().map_or(from, |event| event.number + 1);
        Ok(Page { events, next, lost })
    }

    async fn shutdown(&self, grace: Duration) -> Answer<()> {
        let mut next = self.next.subscribe();
        if self.is_broken("ears") && timeout(grace, next.wait_for(|_| self.is_gone())).await.is_ok() {
            return Ok(());
        }
        let mut state = self.state("shutdown")?;
        for id in state.tasks.keys().cloned().collect::<Vec<_>>() {
            self.end(&mut state, &id, None, 143);
        }
        self.tell(&mut state, None, None, 0, Happened::VmEnded { reason: String::new(), orderly: true });
        state.gone = true;
        drop(state);
        self.next.send_modify(|_| ());
        Ok(())
    }
}
