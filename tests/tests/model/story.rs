//! One story: its steps, what follows from them, and what every interface has to show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use theca_controller::node::Kind;
use theca_controller::node::sandbox::Standing;
use theca_controller::node::task::Phase;
use theca_controller::node::testing::chance::Chance;
use theca_controller::node::testing::model::Model;
use theca_proto::types::Event;
use tonic::{Code, Status, Streaming};

use crate::doors::{Added, Door, Doors};
use crate::heard;
use crate::step::{Step, Verb};
use crate::view::{View, phase};

pub const SANDBOXES: [&str; 2] = ["s0", "s1"];
pub const CONTAINERS: [&str; 3] = ["c0", "c1", "c2"];
/// Names of processes where the caller gives them.
const EXECS: [&str; 2] = ["e0", "e1"];
pub const MEMORY_MIB: u64 = 96;

/// What was asked for shows in this time.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is on its way, which they slow down.
const PACE: Duration = Duration::from_millis(30);
/// No call takes longer, not even a boot where KVM is emulated.
const CALL: Duration = Duration::from_secs(180);
/// Steps that are drawn until one changes something.
const DRAWN: usize = 20;

const KILLED: u32 = 137;
/// How a process ends that ends by itself.
const BY_ITSELF: u32 = 3;

pub struct Story<'a> {
    doors: &'a Doors,
    events: &'a mut Streaming<Event>,
    model: Model,
    chance: Chance,
    /// Containers that go with their init, as those of 2015 do.
    fleeting: BTreeSet<String>,
    /// Added processes, by container and the model's name.
    added: BTreeMap<(String, String), Added>,
    seed: u64,
    steps: Vec<String>,
}

impl<'a> Story<'a> {
    /// Both sandboxes are ready and empty.
    pub fn begin(doors: &'a Doors, events: &'a mut Streaming<Event>, seed: u64, chance: Chance) -> Self {
        let sandboxes = SANDBOXES.map(|sandbox| (sandbox.to_owned(), Standing::Ready)).into();
        let model = Model { sandboxes, ..Model::default() };
        let (fleeting, added, steps) = Default::default();
        Self { doors, events, model, chance, fleeting, added, seed, steps }
    }

    /// Something is asked at some interface. What ends a sandbox is only asked in a `stormy` story.
    pub async fn step(&mut self, stormy: bool) {
        let step = self.draw(stormy);
        self.steps.push(step.to_string());
        let said = self.in_time(self.ask(&step)).await;
        let outcome = said.as_ref().map_or_else(|error| format!(": {error:?}"), |_| ": OK".to_owned());
        self.steps.last_mut().unwrap().push_str(&outcome);
        let before = self.model.clone();
        let meant = step.told_to(&mut self.model);
        let kind = said.as_ref().map(drop).map_err(|error| self.kind(error));
        // A paused VM's keeper says that first, whatever else is the matter.
        let paused = self.model.sandboxes.get(step.sandbox) == Some(&Standing::Paused);
        let excused = paused && meant.is_err() && kind == Err(Kind::FailedPrecondition);
        assert!(kind == meant || excused, "{kind:?} instead of {meant:?}: {}", self.so_far());
        if let Ok(number) = said {
            self.note(&step, number);
        }
        // What changes although it should not shows at the next look.
        if self.model != before {
            self.agree(false).await;
        }
    }

    /// Mostly what changes something: most of what could be asked for is refused, by the same few sentences.
    fn draw(&mut self, stormy: bool) -> Step {
        let mut step = self.any(stormy);
        if self.chance.below(4) == 0 {
            return step;
        }
        for _ in 0..DRAWN {
            let mut model = self.model.clone();
            if step.told_to(&mut model).is_ok() && model != self.model {
                break;
            }
            step = self.any(stormy);
        }
        step
    }

    fn any(&mut self, stormy: bool) -> Step {
        let verb = Verb::draw(&mut self.chance, stormy);
        let (s, container) = (self.chance.pick(&SANDBOXES), self.chance.pick(&CONTAINERS));
        // Where the container is, or would be.
        let home = self.model.containers.get(container).map(|there| there.sandbox.as_str());
        let at = SANDBOXES.into_iter().find(|sandbox| home == Some(sandbox)).unwrap_or(s);
        let process = match verb {
            Verb::Add | Verb::StartAdded => self.chance.pick(&EXECS).to_owned(),
            Verb::KillAdded | Verb::DeleteAdded => self.one_of(container),
            _ => self.nameless(),
        };
        let brief = self.chance.below(3) == 0;
        let known = |door: &&Door| self.knows(**door, at, container, &process);
        let doors: Vec<_> = verb.doors().iter().filter(known).copied().collect();
        let Some(last) = doors.len().checked_sub(1) else {
            // Without a keeper nobody can name what never was started.
            let (verb, door, process) = (Verb::Exec, Door::Tasks, self.nameless());
            return Step { verb, door, sandbox: at, container, process, brief };
        };
        let door = doors[self.chance.below(last + 1)];
        // A keeper knows nothing of the other's containers, so it is asked where the container is.
        let anywhere = verb == Verb::Create && door != Door::Keeper;
        let sandbox = if anywhere || !verb.is_of_container() { s } else { at };
        Step { verb, door, sandbox, container, process, brief }
    }

    /// The name that the model has for a process whose name thecad makes up.
    fn nameless(&self) -> String {
        format!("nameless-{}", self.steps.len())
    }

    /// A process that was added to a container, or one that nobody knows.
    fn one_of(&mut self, container: &str) -> String {
        let execs = self.model.containers.get(container).into_iter().flat_map(|there| there.execs.keys());
        let names: Vec<_> = execs.cloned().chain(["nobody".to_owned()]).collect();
        names[self.chance.below(names.len())].clone()
    }

    /// Whether an interface can be asked about what is in this sandbox, and has a name for this process if it was added.
    fn knows(&self, door: Door, sandbox: &str, container: &str, process: &str) -> bool {
        let added = self.added.get(&(container.to_owned(), process.to_owned()));
        match door {
            Door::Keeper => {
                let standing = self.model.sandboxes.get(sandbox);
                let there = standing.is_some_and(|standing| *standing != Standing::Stopped);
                there && added.is_none_or(|added| added.exec.is_some())
            }
            _ => added.is_none_or(|added| added.pid.is_some()),
        }
    }

    /// Answers a pid or an exit status, where it is told one.
    async fn ask(&self, step: &Step) -> Result<Option<u32>, Status> {
        let Step { door, sandbox: s, container: c, .. } = *step;
        let doors = self.doors;
        let added = self.added.get(&(c.to_owned(), step.process.clone())).cloned().unwrap_or_default();
        let done = match step.verb {
            Verb::Create => doors.create(door, c, s).await,
            Verb::Start => doors.start(door, c, s).await,
            Verb::Pause => doors.pause(door, c, s).await,
            Verb::Resume => doors.resume(door, c, s).await,
            Verb::Kill => doors.kill(door, c, s, None).await,
            Verb::Delete => return doors.delete(door, c, s, None).await,
            Verb::Exec => return doors.exec(door, c, &step.args()).await.map(Some),
            Verb::Add => doors.add(c, s, &step.process, &step.args()).await,
            Verb::StartAdded => return doors.start_process(c, s, &step.process).await.map(Some),
            Verb::KillAdded => doors.kill(door, c, s, Some(&added)).await,
            Verb::DeleteAdded => return doors.delete(door, c, s, Some(&added)).await,
            Verb::PauseSandbox => doors.pause_sandbox(s).await,
            Verb::ResumeSandbox => doors.resume_sandbox(s).await,
            Verb::LabelSandbox => doors.label_sandbox(s).await,
            Verb::StopSandbox => doors.stop_sandbox(s).await,
            Verb::ShutdownSandbox => doors.shutdown_sandbox(s).await,
            Verb::RunSandbox => doors.run_sandbox(s, MEMORY_MIB).await,
            Verb::KeepRecord => doors.keep_record(s).await,
            Verb::ChangeRecord => doors.change_record(s).await,
            Verb::DropRecord => doors.drop_record(s).await,
        };
        done.map(|()| None)
    }

    /// What is remembered of a step that was not refused, beside what the model knows.
    fn note(&mut self, step: &Step, number: Option<u32>) {
        let Step { verb, door, process, brief, .. } = step.clone();
        let (brief, key) = (brief, (step.container.to_owned(), process.clone()));
        match verb {
            Verb::Create if door == Door::Api => drop(self.fleeting.insert(key.0)),
            Verb::Exec => {
                let added = Added { exec: None, pid: number, brief, fleeting: door == Door::Api };
                self.added.insert(key, added);
            }
            Verb::Add => {
                drop(self.added.insert(key, Added { exec: Some(process), brief, ..Added::default() }))
            }
            Verb::StartAdded => self.added.get_mut(&key).expect("it was added").pid = number,
            Verb::Delete => self.ended_with(step, number, KILLED),
            Verb::DeleteAdded => {
                let by_itself = self.added.get(&key).is_some_and(|added| added.brief && added.pid.is_some());
                self.ended_with(step, number, if by_itself { BY_ITSELF } else { KILLED });
            }
            _ => {}
        }
    }

    /// A status that was answered, of what is in a sandbox that nobody stopped: then it is SIGTERM for some.
    fn ended_with(&self, step: &Step, status: Option<u32>, meant: u32) {
        let ready = self.model.sandboxes.get(step.sandbox) == Some(&Standing::Ready);
        assert!(!ready || status.is_none_or(|status| status == meant), "{status:?}: {}", self.so_far());
    }

    /// What thecad or a keeper answers, bounded.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> T {
        let answer = tokio::time::timeout(CALL, answer).await;
        answer.unwrap_or_else(|_| panic!("nothing was answered in {CALL:?}: {}", self.so_far()))
    }

    fn kind(&self, error: &Status) -> Kind {
        match error.code() {
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::FailedPrecondition => Kind::FailedPrecondition,
            _ => panic!("{error}: {}", self.so_far()),
        }
    }

    fn so_far(&self) -> String {
        format!("THECA_MODEL_SEED={} {:#?}", self.seed, self.steps)
    }

    /// What ends by itself ends, and what goes with its end goes.
    fn what_follows(&mut self) {
        for ((c, exec), added) in &self.added {
            if added.brief && added.pid.is_some() {
                self.model.ends(c, Some(exec));
            }
        }
        for ((c, exec), _) in self.added.iter().filter(|(_, added)| added.fleeting) {
            let execs = self.model.containers.get_mut(c).map(|container| &mut container.execs);
            if let Some(execs) = execs.filter(|execs| execs.get(exec) == Some(&Phase::Stopped)) {
                execs.remove(exec);
            }
        }
        let over = |c: &&String| {
            self.model.containers.get(*c).is_some_and(|container| container.init == Phase::Stopped)
        };
        for c in self.fleeting.iter().filter(over).cloned().collect::<Vec<_>>() {
            self.model.delete(&c, false).unwrap();
        }
        let Model { containers, .. } = &self.model;
        self.fleeting.retain(|c| containers.contains_key(c));
        self.added
            .retain(|(c, exec), _| containers.get(c).is_some_and(|there| there.execs.contains_key(exec)));
    }

    /// Waits until every interface shows what the model does; or Tasks alone, which shows most.
    async fn agree(&mut self, all: bool) {
        self.what_follows();
        let mut meant = self.meant();
        if !all {
            meant = View { containers: meant.containers, ..View::default() };
        }
        let begun = Instant::now();
        loop {
            let shown = self.in_time(self.shown(all)).await;
            if shown.as_ref() == Some(&meant) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{shown:#?} instead of {meant:#?}: {}", self.so_far());
            tokio::time::sleep(PACE).await;
        }
    }

    fn meant(&self) -> View {
        let standing = |standing: &Standing| match standing {
            Standing::Created => "created",
            Standing::Ready => "ready",
            Standing::Paused => "paused",
            Standing::Stopped => "stopped",
        };
        let sandboxes = self.model.sandboxes.iter().map(|(id, at)| (id.clone(), standing(at).to_owned()));
        let records = self.model.records.iter().cloned().collect();
        let mut view = View { sandboxes: sandboxes.collect(), records, ..View::default() };
        for (id, container) in &self.model.containers {
            let pid = |exec: &String| self.added[&(id.clone(), exec.clone())].pid.unwrap_or(0);
            let execs = container.shown().into_iter().filter_map(|(exec, phase)| Some((pid(&exec?), phase)));
            view.add(id, container.init, execs.collect());
        }
        view
    }

    /// None while it changes.
    async fn shown(&self, all: bool) -> Option<View> {
        let mut view = View::default();
        for task in self.doors.containers().await {
            let processes = self.doors.processes(&task.id).await.ok()?;
            let execs = processes.iter().skip(1).map(|one| (one.pid, phase(one.status())));
            view.add(&task.id, phase(task.status()), execs.collect());
        }
        (view.of_2016, view.of_2015) = Default::default();
        if !all {
            return Some(view);
        }
        for id in SANDBOXES {
            view.sandboxes.extend(self.doors.standing(id).await.map(|word| (id.to_owned(), word)));
        }
        view.records = self.doors.records().await;
        for container in self.doors.containers_of_2016().await {
            view.of_2016.insert(container.id.clone(), container.status());
        }
        for container in self.doors.containers_of_2015().await {
            view.of_2015.insert(container.id, container.status);
        }
        Some(view)
    }

    /// Looks at everything, then brings both sandboxes back to where they were, empty; then what was told of this story made sense.
    /// Answers how many steps it had.
    pub async fn end(mut self) -> usize {
        self.agree(true).await;
        for s in SANDBOXES {
            match self.model.sandboxes.get(s) {
                Some(Standing::Ready) => {}
                Some(Standing::Paused) => {
                    self.in_time(self.doors.resume_sandbox(s)).await.unwrap();
                    self.model.stand(s, Standing::Ready).unwrap();
                }
                _ => {
                    self.in_time(self.doors.shutdown_sandbox(s)).await.unwrap();
                    self.model.shutdown_sandbox(s).unwrap();
                    self.in_time(self.doors.run_sandbox(s, MEMORY_MIB)).await.unwrap();
                    self.model.run_sandbox(s).unwrap();
                }
            }
        }
        for (c, container) in self.model.containers.clone() {
            if matches!(container.init, Phase::Running | Phase::Paused) {
                self.in_time(self.doors.kill(Door::Tasks, &c, &container.sandbox, None)).await.unwrap();
                self.model.kill(&c).unwrap();
            }
        }
        self.agree(false).await;
        for (c, container) in self.model.containers.clone() {
            self.in_time(self.doors.delete(Door::Tasks, &c, &container.sandbox, None)).await.unwrap();
            self.model.delete(&c, false).unwrap();
        }
        for record in std::mem::take(&mut self.model.records) {
            self.in_time(self.doors.drop_record(&record)).await.unwrap();
        }
        self.agree(false).await;
        if let Err(unfit) = heard::to_the_end(self.events).await {
            panic!("{unfit}: {}", self.so_far());
        }
        self.steps.len()
    }
}
