//! What the node knows, and has told, of one task: pure, and written down as it is.
//!
//! Every change goes through a method here that answers the events to tell. A change that was told already, or that would
//! lead back from an end, is none; so a keeper's events, a look at its processes and the loss of both can come in any order,
//! and each thing is told once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Process, Task};
use crate::id::{ContainerId, ExecId, SandboxId};
use crate::node::error::ProcessName;
use crate::node::events::What;
use crate::node::keeper::{Phase, ProcessReport, Sample};
use crate::node::store::Document;
use crate::node::values::{Command, Exit, Io, Mount};
use crate::task::room;

/// Status of a process whose sandbox went away under it: as if it had been killed.
pub const LOST: u32 = 137;

/// How long a keeper may know an added process after it went with its end: much longer than it does.
const LONGEST_KNOWN: Duration = Duration::from_secs(60);

/// The end, now, of a process whose sandbox went away under it.
pub fn lost_now() -> Exit {
    Exit { status: LOST, at: SystemTime::now() }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its container.
    pub container: ContainerId,
    /// Where it is.
    pub sandbox: SandboxId,
    /// Its bundle.
    pub bundle: PathBuf,
    /// What its root is made of.
    pub rootfs: Vec<Mount>,
    /// When it was created.
    pub created_at: SystemTime,
    /// Labels of the container's record.
    pub labels: BTreeMap<String, String>,
    /// Forgotten once init's exit was told.
    pub delete_at_exit: bool,
    /// Its init.
    pub init: Proc,
    /// Added processes.
    pub execs: BTreeMap<ExecId, Proc>,
    /// Added processes that went with their end, and when: their keeper may still know them.
    #[serde(default)]
    pub forgotten: BTreeMap<ExecId, SystemTime>,
    /// Counters, as they were last read.
    pub sample: Option<Sample>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proc {
    /// In the guest; 0 before it has started.
    pub pid: u32,
    /// Where it stands. An added process is never `Paused`: its container is.
    pub phase: Phase,
    /// How it ended, once `phase` is `Stopped`.
    pub exit: Option<Exit>,
    /// Its input and output.
    pub io: Io,
    /// What it was asked to run.
    pub command: Command,
    /// An added one is forgotten once its exit was told.
    #[serde(default)]
    pub forget: bool,
}

impl Document for Record {
    const WHAT: &'static str = "task";

    fn id(&self) -> &str {
        self.container.as_str()
    }
}

impl Proc {
    /// One that waits for its start.
    pub fn created(io: Io) -> Self {
        Self { pid: 0, phase: Phase::Created, exit: None, io, command: Command::default(), forget: false }
    }

    fn take(&mut self, report: &ProcessReport) {
        if report.pid != 0 {
            self.pid = report.pid;
        }
        self.io.clone_from(&report.io);
        self.command.clone_from(&report.command);
    }
}

impl Record {
    /// The event of its creation, which is told once.
    pub fn creation(&self) -> What {
        What::Created {
            pid: self.init.pid,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            io: self.init.io.clone(),
        }
    }

    /// Takes over how a keeper describes the processes that are known. What happened to them is told by events, but for
    /// the deletion of an added one that had ended.
    pub fn describe(&mut self, reports: &[ProcessReport]) -> Vec<What> {
        for report in reports {
            if let Some(proc) = self.proc_mut(report.exec.as_ref()) {
                proc.take(report);
            }
        }
        let named = |exec: &ExecId| reports.iter().any(|report| report.exec.as_ref() == Some(exec));
        let gone = self.execs.iter().filter(|(exec, proc)| proc.phase == Phase::Stopped && !named(exec));
        let gone: Vec<_> = gone.map(|(exec, _)| exec.clone()).collect();
        gone.iter().filter_map(|exec| self.deleted(exec, None)).collect()
    }

    /// Takes over what a keeper says of the container's processes, where events about them were lost.
    pub fn absorb(&mut self, reports: &[ProcessReport]) -> Vec<What> {
        let mut told = Vec::new();
        let named = |exec: &ExecId| reports.iter().any(|report| report.exec.as_ref() == Some(exec));
        let gone: Vec<_> = self.execs.keys().filter(|&exec| !named(exec)).cloned().collect();
        for report in reports.iter().filter(|report| report.exec.is_none()) {
            self.init.take(report);
            if report.phase != Phase::Created && self.init.phase == Phase::Created {
                told.extend(self.started(None));
            }
            match report.phase {
                Phase::Paused => told.extend(self.paused(true)),
                Phase::Running => told.extend(self.paused(false)),
                _ => {}
            }
        }
        for report in reports {
            let Some(exec) = &report.exec else { continue };
            if self.forgotten.contains_key(exec) {
                continue;
            }
            told.extend(self.added(exec, &report.io));
            let Some(proc) = self.execs.get_mut(exec) else { continue };
            proc.take(report);
            if report.phase != Phase::Created {
                told.extend(self.started(Some(exec)));
            }
            if let (Phase::Stopped, Some(exit)) = (report.phase, report.exit) {
                told.extend(self.exited(Some(exec), exit));
            }
        }
        for exec in gone {
            told.extend(self.exited(Some(&exec), lost_now()));
            told.extend(self.deleted(&exec, None));
        }
        let init = reports.iter().find(|report| report.exec.is_none());
        if let Some(exit) =
            init.filter(|report| report.phase == Phase::Stopped).and_then(|report| report.exit)
        {
            told.extend(self.exited(None, exit));
        }
        told
    }

    /// A process has a pid.
    pub fn has_pid(&mut self, exec: Option<&ExecId>, pid: u32) {
        if let Some(proc) = self.proc_mut(exec).filter(|_| pid != 0) {
            proc.pid = pid;
        }
    }

    /// A process runs.
    pub fn started(&mut self, exec: Option<&ExecId>) -> Option<What> {
        let proc = self.proc_mut(exec).filter(|proc| proc.phase == Phase::Created)?;
        proc.phase = Phase::Running;
        let pid = proc.pid;
        Some(match exec {
            None => What::Started { pid },
            Some(exec) => What::ExecStarted { exec: exec.clone(), pid },
        })
    }

    /// A process was added.
    pub fn added(&mut self, exec: &ExecId, io: &Io) -> Option<What> {
        if self.execs.contains_key(exec) {
            return None;
        }
        self.forgotten.remove(exec);
        self.execs.insert(exec.clone(), Proc::created(io.clone()));
        Some(What::ExecAdded { exec: exec.clone() })
    }

    /// The container is frozen, or no longer.
    pub fn paused(&mut self, paused: bool) -> Option<What> {
        match (self.init.phase, paused) {
            (Phase::Running, true) => {
                self.init.phase = Phase::Paused;
                Some(What::Paused)
            }
            (Phase::Paused, false) => {
                self.init.phase = Phase::Running;
                Some(What::Resumed)
            }
            _ => None,
        }
    }

    /// A process has ended. With init everything has.
    pub fn exited(&mut self, exec: Option<&ExecId>, exit: Exit) -> Vec<What> {
        let mut told = Vec::new();
        if exec.is_none() && self.init.phase != Phase::Stopped {
            for exec in self.execs.keys().cloned().collect::<Vec<_>>() {
                told.extend(self.exited(Some(&exec), Exit { status: LOST, at: exit.at }));
            }
        }
        let Some(proc) = self.proc_mut(exec).filter(|proc| proc.phase != Phase::Stopped) else { return told };
        let started = proc.phase != Phase::Created;
        (proc.phase, proc.exit) = (Phase::Stopped, Some(exit));
        let forget = proc.forget;
        if exec.is_none() || started {
            told.push(What::Exited { exec: exec.cloned(), pid: proc.pid, exit, started });
        }
        if let Some(exec) = exec.filter(|_| forget) {
            told.extend(self.goes(exec));
        }
        told
    }

    /// An added process is forgotten once its exit was told, at once if it was.
    pub fn forget_at_exit(&mut self, exec: &ExecId) -> Option<What> {
        let proc = self.execs.get_mut(exec)?;
        proc.forget = true;
        let over = proc.phase == Phase::Stopped;
        over.then(|| self.goes(exec)).flatten()
    }

    fn goes(&mut self, exec: &ExecId) -> Option<What> {
        let long_ago = |at: &SystemTime| at.elapsed().is_ok_and(|since| since > LONGEST_KNOWN);
        self.forgotten.retain(|_, at| !long_ago(at));
        // Nor does it know more of them at once.
        if self.forgotten.len() >= room::MOST
            && let Some(oldest) =
                self.forgotten.iter().min_by_key(|(_, at)| **at).map(|(exec, _)| exec.clone())
        {
            self.forgotten.remove(&oldest);
        }
        self.forgotten.insert(exec.clone(), SystemTime::now());
        self.deleted(exec, None)
    }

    /// Its sandbox has gone, and every process with it.
    pub fn lost(&mut self, at: SystemTime) -> Vec<What> {
        self.exited(None, Exit { status: LOST, at })
    }

    /// An added process was forgotten; `exit` for one that was never started.
    pub fn deleted(&mut self, exec: &ExecId, exit: Option<Exit>) -> Option<What> {
        let proc = self.execs.remove(exec)?;
        let exit = proc.exit.or(exit).unwrap_or_else(lost_now);
        Some(What::Deleted { exec: Some(exec.clone()), pid: proc.pid, exit })
    }

    /// The task is forgotten: what still lived of it has ended, and then it is gone.
    pub fn deletion(&mut self, exit: Exit) -> Vec<What> {
        let mut told = self.exited(None, exit);
        let exit = self.init.exit.unwrap_or(exit);
        told.push(What::Deleted { exec: None, pid: self.init.pid, exit });
        told
    }

    /// Whether it is to be deleted and nobody will ask for it: of these, one that runs goes with its end.
    pub fn is_unwanted(&self) -> bool {
        self.delete_at_exit && matches!(self.init.phase, Phase::Created | Phase::Stopped)
    }

    /// Which process a name means; the outer `None` is nobody. Of several with one pid, one that lives.
    pub fn find(&self, name: &ProcessName) -> Option<Option<ExecId>> {
        match name {
            ProcessName::Init | ProcessName::Pid(0) => Some(None),
            ProcessName::Exec(exec) => self.execs.contains_key(exec).then(|| Some(exec.clone())),
            ProcessName::Pid(pid) if *pid == self.init.pid => Some(None),
            ProcessName::Pid(pid) => {
                let mut named = self.execs.iter().filter(|(_, proc)| proc.pid == *pid).collect::<Vec<_>>();
                named.sort_by_key(|(_, proc)| (proc.phase == Phase::Stopped, proc.exit.map(|exit| exit.at)));
                named.first().map(|(exec, _)| Some((*exec).clone()))
            }
        }
    }

    /// A process of it.
    pub fn proc(&self, exec: Option<&ExecId>) -> Option<&Proc> {
        exec.map_or(Some(&self.init), |exec| self.execs.get(exec))
    }

    fn proc_mut(&mut self, exec: Option<&ExecId>) -> Option<&mut Proc> {
        match exec {
            None => Some(&mut self.init),
            Some(exec) => self.execs.get_mut(exec),
        }
    }

    /// A process as others see it.
    pub fn process(&self, exec: Option<&ExecId>) -> Option<Process> {
        let proc = self.proc(exec)?;
        let frozen = self.init.phase == Phase::Paused && proc.phase == Phase::Running;
        Some(Process {
            exec: exec.cloned(),
            pid: proc.pid,
            phase: if frozen { Phase::Paused } else { proc.phase },
            exit: proc.exit,
            io: proc.io.clone(),
            command: proc.command.clone(),
        })
    }

    /// All processes, init first.
    pub fn processes(&self) -> Vec<Process> {
        let names = std::iter::once(None).chain(self.execs.keys().map(Some));
        names.filter_map(|exec| self.process(exec)).collect()
    }

    /// The task as others see it.
    pub fn task(&self) -> Option<Task> {
        Some(Task {
            container: self.container.clone(),
            sandbox: self.sandbox.clone(),
            bundle: self.bundle.clone(),
            init: self.process(None)?,
            created_at: self.created_at,
            labels: self.labels.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::MAX_CONFIG;
    use crate::node::journal::Journal;
    use crate::task::room::{MOST, MOST_BYTES};

    #[test]
    fn a_task_with_all_that_its_keeper_keeps_of_it_fits_into_a_document() {
        let proc = |bytes: usize| Proc {
            pid: u32::MAX,
            phase: Phase::Stopped,
            exit: Some(lost_now()),
            command: Command { args: vec!["x".repeat(bytes)], ..Command::default() },
            ..Proc::created(Io::default())
        };
        let exec = |number: usize| (format!("{number:0>76}").parse().unwrap(), proc(MOST_BYTES / MOST));
        let mut record = Record {
            container: "web".parse().unwrap(),
            sandbox: "pod".parse().unwrap(),
            bundle: "/bundle".into(),
            rootfs: Vec::new(),
            created_at: SystemTime::now(),
            labels: BTreeMap::new(),
            delete_at_exit: false,
            init: proc(MAX_CONFIG as usize),
            execs: (0..MOST).map(exec).collect(),
            forgotten: (0..MOST).map(|number| (exec(number).0, SystemTime::now())).collect(),
            sample: None,
        };
        record.added(&"one-more".parse().unwrap(), &Io::default());
        record.exited(Some(&"one-more".parse().unwrap()), lost_now());
        record.forget_at_exit(&"one-more".parse().unwrap());
        assert_eq!(record.forgotten.len(), MOST);
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path()).unwrap().tasks.put(&"tests".parse().unwrap(), record).unwrap();
    }
}
