//! A sandbox as the node knows it: how it was to be, where it stands, and its tasks. Pure: it is told what the keeper tells,
//! and answers what is to be told on.
//!
//! A keeper's event is taken once, by its number, whoever brings it: the follower that waits for the next, or a call that
//! wants to see what it has just caused.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Standing;
use crate::id::{ContainerId, ExecId};
use crate::node::events::What;
use crate::node::journal::SandboxEntry;
use crate::node::keeper::{Happened, Happening, Page, Phase, ProcessReport, Sample};
use crate::node::task::record::{Proc, Record};
use crate::node::values::{Exit, Io, Mount};

/// Least time between two samples that nobody asked for.
const BETWEEN_SAMPLES: Duration = Duration::from_secs(10);
/// Ends of the forgotten that are kept.
const GRAVES: usize = 64;

/// What is known of a container before the keeper tells of it.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// What its root is made of.
    pub rootfs: Vec<Mount>,
    /// Its init's input and output.
    pub io: Io,
    /// Labels of the container's record.
    pub labels: BTreeMap<String, String>,
    /// Forgotten once init's exit was told.
    pub delete_at_exit: bool,
}

/// One sandbox.
#[derive(Debug)]
pub struct Mirror {
    /// What is written down of it.
    pub entry: SandboxEntry,
    /// Its tasks.
    pub tasks: BTreeMap<ContainerId, Record>,
    /// Containers that are being created.
    pub expected: BTreeMap<ContainerId, Expected>,
    /// What an earlier process told and did not write down here: not to be told again.
    pub retold: Vec<(Option<ContainerId>, What)>,
    /// When each task's counters were last asked for without anybody wanting them.
    asked: BTreeMap<ContainerId, Instant>,
    /// How the latest that were forgotten had ended, for whoever waits for them.
    graves: VecDeque<(ContainerId, Option<ExecId>, Exit)>,
}

/// What follows from news.
#[derive(Debug, Default)]
pub struct News {
    /// To be told, in this order.
    pub told: Vec<(Option<ContainerId>, What)>,
    /// What is written down of the sandbox changed, beside what is told.
    pub entry_changed: bool,
    /// Records that changed.
    pub changed: Vec<ContainerId>,
    /// Tasks whose init has ended, or will never be started.
    pub ended: Vec<ContainerId>,
    /// Tasks that are gone.
    pub gone: Vec<ContainerId>,
    /// The guest has booted.
    pub vm_ready: bool,
    /// The VM is over.
    pub vm_over: bool,
    /// Events were lost: a look at the keeper's processes has to do.
    pub look: bool,
}

impl Mirror {
    /// A sandbox without tasks.
    pub fn new(entry: SandboxEntry) -> Self {
        Self {
            entry,
            tasks: BTreeMap::new(),
            expected: BTreeMap::new(),
            retold: Vec::new(),
            asked: BTreeMap::new(),
            graves: VecDeque::new(),
        }
    }

    /// Whether an event was told by an earlier process. Each counts once.
    pub fn was_told(&mut self, container: Option<&ContainerId>, what: &What) -> bool {
        let again =
            |(id, told): &(Option<ContainerId>, What)| id.as_ref() == container && told.is_again(what);
        let place = self.retold.iter().position(again);
        place.map(|place| self.retold.remove(place)).is_some()
    }

    /// Takes what was not taken before.
    pub fn take(&mut self, page: Page) -> News {
        let mut news = News { look: page.lost > 0 && self.entry.cursor < page.next, ..News::default() };
        for happening in page.events {
            if happening.number < self.entry.cursor {
                continue;
            }
            self.entry.cursor = happening.number + 1;
            self.happened(happening, &mut news);
        }
        self.entry.cursor = self.entry.cursor.max(page.next);
        news
    }

    fn happened(&mut self, happening: Happening, news: &mut News) {
        let Happening { container, exec, pid, what, .. } = happening;
        let Some(container) = container else {
            match what {
                Happened::VmReady => news.vm_ready = true,
                Happened::VmEnded { reason, orderly } => {
                    self.entry.failure = (!orderly).then_some(reason);
                    self.entry.vm_over = true;
                    news.vm_over = true;
                }
                _ => {}
            }
            return;
        };
        if let Happened::Created { bundle } = what {
            if self.tasks.contains_key(&container) {
                return;
            }
            let passing = self.entry.passing.remove(&container);
            let expected = self.expected.remove(&container).unwrap_or_else(|| {
                // Whoever asked for it went with an earlier process.
                news.ended.extend(passing.then(|| container.clone()));
                Expected { delete_at_exit: passing, ..Expected::default() }
            });
            let record = Record {
                container: container.clone(),
                sandbox: self.entry.create.id.clone(),
                bundle,
                rootfs: expected.rootfs,
                created_at: SystemTime::now(),
                labels: expected.labels,
                delete_at_exit: expected.delete_at_exit,
                init: Proc { pid, ..Proc::created(expected.io) },
                execs: BTreeMap::new(),
                forgotten: BTreeMap::new(),
                sample: None,
            };
            news.told.push((Some(container.clone()), record.creation()));
            news.changed.push(container.clone());
            self.tasks.insert(container, record);
            return;
        }
        let Some(record) = self.tasks.get_mut(&container) else { return };
        record.has_pid(exec.as_ref(), pid);
        let told = match (what, exec) {
            (Happened::Started, _) => record.started(None).into_iter().collect(),
            (Happened::ExecAdded, Some(exec)) => {
                let told = record.added(&exec, &Io::default()).into_iter().collect();
                record.has_pid(Some(&exec), pid);
                told
            }
            (Happened::ExecStarted, Some(exec)) => record.started(Some(&exec)).into_iter().collect(),
            (Happened::Exited(exit), exec) => record.exited(exec.as_ref(), exit),
            (Happened::Deleted(exit), Some(exec)) => record.deleted(&exec, Some(exit)).into_iter().collect(),
            (Happened::Deleted(exit), None) => return self.forget(&container, exit, news),
            (Happened::Paused, _) => record.paused(true).into_iter().collect(),
            (Happened::Resumed, _) => record.paused(false).into_iter().collect(),
            (Happened::OutOfMemory, _) => vec![What::OutOfMemory],
            _ => Vec::new(),
        };
        self.tell(&container, told, news);
    }

    /// A task is gone.
    pub fn forget(&mut self, container: &ContainerId, exit: Exit, news: &mut News) {
        let Some(mut record) = self.tasks.remove(container) else { return };
        self.asked.remove(container);
        let told = record.deletion(exit);
        self.bury(container, &told);
        news.told.extend(told.into_iter().map(|what| (Some(container.clone()), what)));
        news.gone.push(container.clone());
    }

    /// An added process is gone.
    pub fn forget_exec(&mut self, container: &ContainerId, exec: &ExecId, exit: Exit) -> News {
        let mut news = News::default();
        if let Some(record) = self.tasks.get_mut(container) {
            let told = record.deleted(exec, Some(exit)).into_iter().collect();
            self.tell(container, told, &mut news);
        }
        news
    }

    /// An added process goes once its exit was told, at once if it was.
    pub fn forget_at_exit(&mut self, container: &ContainerId, exec: &ExecId) -> News {
        let mut news = News::default();
        if let Some(record) = self.tasks.get_mut(container) {
            let told = record.forget_at_exit(exec).into_iter().collect();
            self.tell(container, told, &mut news);
        }
        news
    }

    /// Input and output of an added process, which events do not tell.
    pub fn has_io(&mut self, container: &ContainerId, exec: &ExecId, io: &Io) -> News {
        let proc = self.tasks.get_mut(container).and_then(|record| record.execs.get_mut(exec));
        if let Some(proc) = proc {
            proc.io.clone_from(io);
        }
        News { changed: vec![container.clone()], ..News::default() }
    }

    /// Counters of a container, unless later ones are known.
    pub fn keep_sample(&mut self, container: &ContainerId, sample: Sample) -> News {
        let Some(record) = self.tasks.get_mut(container) else { return News::default() };
        if record.sample.as_ref().is_none_or(|kept| kept.at <= sample.at) {
            record.sample = Some(sample);
        }
        News { changed: vec![container.clone()], ..News::default() }
    }

    /// Whether a container's counters are to be read, so that something is left of it if it dies all of a sudden. Not too
    /// often, unless it has just `started`. Whoever asks is to read them.
    pub fn wants_sample(&mut self, container: &ContainerId, started: bool) -> bool {
        let lives = self.tasks.get(container).is_some_and(|record| record.init.phase == Phase::Running);
        let lately = self.asked.get(container).is_some_and(|at| at.elapsed() < BETWEEN_SAMPLES);
        let wanted = lives && (started || !lately);
        if wanted {
            self.asked.insert(container.clone(), Instant::now());
        }
        wanted
    }

    /// How a process of `container` ended that is known or was until lately.
    pub fn end_of(&self, container: &ContainerId, exec: Option<&ExecId>) -> Option<Exit> {
        let known = self.tasks.get(container).and_then(|record| record.proc(exec));
        match known {
            Some(proc) => proc.exit,
            None => {
                let mut graves = self.graves.iter().rev();
                graves.find(|(id, name, _)| id == container && name.as_ref() == exec).map(|(.., exit)| *exit)
            }
        }
    }

    fn bury(&mut self, container: &ContainerId, told: &[What]) {
        for what in told {
            if let What::Exited { exec, exit, .. } | What::Deleted { exec, exit, .. } = what {
                self.graves.push_back((container.clone(), exec.clone(), *exit));
            }
        }
        let spare = self.graves.len().saturating_sub(GRAVES);
        self.graves.drain(..spare);
    }

    /// Takes over how a keeper describes one task's processes.
    pub fn describe(&mut self, container: &ContainerId, reports: &[ProcessReport]) -> News {
        let mut news = News::default();
        let told = self.tasks.get_mut(container).map(|record| record.describe(reports)).unwrap_or_default();
        if !told.is_empty() {
            self.tell(container, told, &mut news);
        }
        news
    }

    /// Takes what a look at one task's processes shows.
    pub fn look(&mut self, container: &ContainerId, reports: &[ProcessReport]) -> News {
        let mut news = News::default();
        if let Some(record) = self.tasks.get_mut(container) {
            let told = record.absorb(reports);
            self.tell(container, told, &mut news);
        }
        news
    }

    /// The sandbox has ended, and with it whatever still lived.
    pub fn ended(&mut self, exit: Exit, reason: String) -> News {
        let mut news = News::default();
        if self.entry.exit.is_some() {
            return news;
        }
        for container in self.tasks.keys().cloned().collect::<Vec<_>>() {
            let told = self.tasks.get_mut(&container).map(|record| record.lost(exit.at)).unwrap_or_default();
            self.tell(&container, told, &mut news);
        }
        let ran = self.entry.standing != Standing::Created;
        self.entry.standing = Standing::Stopped;
        self.entry.exit = Some(exit);
        self.entry.reason.clone_from(&reason);
        if ran {
            news.told.push((None, What::SandboxExited { exit, reason }));
        }
        news
    }

    /// Whether a process of it may still tell its end.
    pub fn has_live_tasks(&self) -> bool {
        self.tasks.values().any(|record| record.init.phase != Phase::Stopped)
    }

    /// What was about to be created here by a process that ended then is not waited for any longer.
    pub fn forget_passing(&mut self) -> News {
        let (before, expected) = (self.entry.passing.len(), &self.expected);
        self.entry.passing.retain(|container| expected.contains_key(container));
        News { entry_changed: self.entry.passing.len() != before, ..News::default() }
    }

    /// Whether it has no task, and none is being created.
    pub fn has_no_tasks(&self) -> bool {
        self.tasks.is_empty() && self.expected.is_empty()
    }

    fn tell(&mut self, container: &ContainerId, told: Vec<What>, news: &mut News) {
        if told.iter().any(|what| matches!(what, What::Deleted { .. })) {
            self.bury(container, &told);
        }
        if told.iter().any(|what| matches!(what, What::Exited { exec: None, .. })) {
            news.ended.push(container.clone());
        }
        news.told.extend(told.into_iter().map(|what| (Some(container.clone()), what)));
        news.changed.push(container.clone());
    }
}

#[cfg(test)]
#[path = "mirror_test.rs"]
mod tests;
