//! One story: its steps, what follows from them, and what every interface has to show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use theca_controller::node::Kind;
use theca_controller::node::sandbox::Standing;
use theca_controller::node::task::Phase;
use theca_controller::node::testing::chance::Chance;
use theca_controller::node::testing::model::{Answer, Model};
use theca_proto::types::Event;
use tonic::{Code, Status, Streaming};

use crate::doors::{Added, Door, Doors};
use crate::view::{View, phase};

pub const SANDBOXES: [&str; 2] = ["s0", "s1"];
pub const CONTAINERS: [&str; 3] = ["c0", "c1", "c2"];
/// Names of processes where the caller gives them.
const EXECS: [&str; 2] = ["e0", "e1"];
pub const MEMORY_MIB: u64 = 96;

/// Interfaces by what they offer.
const ALL: &[Door] = &[Door::Api, Door::Execution, Door::Tasks, Door::Keeper];
const STARTING: &[Door] = &[Door::Execution, Door::Tasks, Door::Keeper];
const DELETING: &[Door] = STARTING;
const RUNNING_AT_ONCE: &[Door] = &[Door::Api, Door::Execution, Door::Tasks];

/// What was asked for shows in this time.
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(10);

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
        let (s, c) = (self.chance.pick(&SANDBOXES), self.chance.pick(&CONTAINERS));
        // Where the container is, or would be.
        let at = self.model.containers.get(c).map_or_else(|| s.to_owned(), |there| there.sandbox.clone());
        let verb = self.chance.below(if stormy { 26 } else { 23 });
        let doors = self.doors;
        let (asked, said, meant) = match verb {
            0..=3 => self.create(s, c, &at).await,
            4 | 5 => {
                let door = self.door(STARTING, &at);
                (format!("start {c} by {door:?}"), doors.start(door, c, &at).await, self.model.start(c))
            }
            6 => {
                let door = self.door(ALL, &at);
                let meant = self.model.freeze(c, Phase::Running, Phase::Paused);
                (format!("pause {c} by {door:?}"), doors.pause(door, c, &at).await, meant)
            }
            7 => {
                let door = self.door(ALL, &at);
                let meant = self.model.freeze(c, Phase::Paused, Phase::Running);
                (format!("resume {c} by {door:?}"), doors.resume(door, c, &at).await, meant)
            }
            8 => {
                let door = self.door(ALL, &at);
                (format!("kill {c} by {door:?}"), doors.kill(door, c, &at, None).await, self.model.kill(c))
            }
            9 => {
                let door = self.door(DELETING, &at);
                let ended = doors.delete(door, c, &at, None).await;
                self.ended_with(&at, &ended, KILLED);
                (format!("delete {c} by {door:?}"), ended.map(drop), self.model.delete(c, false))
            }
            10 | 11 => self.exec(c, &at).await,
            12 | 13 => self.add(c, &at).await,
            14 => self.start_added(c, &at).await,
            15 => {
                let (exec, added, door) = self.process(ALL, c, &at);
                let said = doors.kill(door, c, &at, Some(&added)).await;
                (format!("kill {exec} in {c} by {door:?}"), said, self.model.kill_exec(c, &exec))
            }
            16 => {
                let (exec, added, door) = self.process(DELETING, c, &at);
                let ended = doors.delete(door, c, &at, Some(&added)).await;
                let brief = added.brief && added.pid.is_some();
                self.ended_with(&at, &ended, if brief { BY_ITSELF } else { KILLED });
                let meant = self.model.delete_exec(c, &exec);
                (format!("delete {exec} in {c} by {door:?}"), ended.map(drop), meant)
            }
            17 => (format!("pause {s}"), doors.pause_sandbox(s).await, self.model.stand(s, Standing::Paused)),
            18 => {
                (format!("resume {s}"), doors.resume_sandbox(s).await, self.model.stand(s, Standing::Ready))
            }
            19 => (format!("update {s}"), doors.update_sandbox(s).await, self.model.update_sandbox(s)),
            20 => (format!("keep a record of {s}"), doors.keep_record(s).await, self.model.keep_record(s)),
            21 => (format!("change that of {s}"), doors.change_record(s).await, self.model.change_record(s)),
            22 => (format!("drop that of {s}"), doors.drop_record(s).await, self.model.drop_record(s)),
            23 => (format!("stop {s}"), doors.stop_sandbox(s).await, self.model.stop_sandbox(s)),
            24 => (format!("shut down {s}"), doors.shutdown_sandbox(s).await, self.model.shutdown_sandbox(s)),
            _ => {
                let said = doors.run_sandbox(s, MEMORY_MIB).await;
                (format!("run {s}"), said, self.model.run_sandbox(s))
            }
        };
        self.steps.push(format!("{asked}: {said:?}"));
        let said = said.map_err(|error| self.kind(&error));
        // A paused VM's keeper says that first, whatever else is the matter.
        let paused = self.model.sandboxes.get(&at) == Some(&Standing::Paused);
        let excused = paused && meant.is_err() && said == Err(Kind::FailedPrecondition);
        assert!(said == meant || excused, "{said:?} instead of {meant:?}: {}", self.so_far());
        self.agree(false).await;
    }

    async fn create(&mut self, s: &str, c: &str, at: &str) -> (String, Result<(), Status>, Answer) {
        let door = self.door(ALL, at);
        // A keeper knows nothing of the other's containers, so it is asked where the container is.
        let s = if door == Door::Keeper { at } else { s };
        let said = self.doors.create(door, c, s).await;
        let mut meant = self.model.create(c, Some(s));
        if door == Door::Api && meant.is_ok() {
            meant = self.model.start(c);
            self.fleeting.insert(c.to_owned());
        }
        (format!("create {c} in {s} by {door:?}"), said, meant)
    }

    /// A process that runs at once, and whose name is made up by thecad.
    async fn exec(&mut self, c: &str, at: &str) -> (String, Result<(), Status>, Answer) {
        let door = self.door(RUNNING_AT_ONCE, at);
        let (brief, args) = self.program();
        let started = self.doors.exec(door, c, &args).await;
        let name = format!("nameless-{}", self.steps.len());
        let meant = self.model.exec(c, &name);
        if let Ok(pid) = started {
            let fleeting = door == Door::Api;
            self.added.insert((c.to_owned(), name), Added { exec: None, pid: Some(pid), brief, fleeting });
        }
        (format!("exec {args:?} in {c} by {door:?}"), started.map(drop), meant)
    }

    async fn add(&mut self, c: &str, at: &str) -> (String, Result<(), Status>, Answer) {
        let (e, (brief, args)) = (self.chance.pick(&EXECS), self.program());
        if !self.has_keeper(at) {
            return self.nothing();
        }
        let said = self.doors.add(c, at, e, &args).await;
        if said.is_ok() {
            let added = Added { exec: Some(e.into()), brief, ..Added::default() };
            self.added.insert((c.to_owned(), e.to_owned()), added);
        }
        (format!("add {e} {args:?} to {c}"), said, self.model.add(c, e))
    }

    async fn start_added(&mut self, c: &str, at: &str) -> (String, Result<(), Status>, Answer) {
        let e = self.chance.pick(&EXECS);
        if !self.has_keeper(at) {
            return self.nothing();
        }
        let started = self.doors.start_process(c, at, e).await;
        if let (Ok(pid), Some(added)) = (&started, self.added.get_mut(&(c.to_owned(), e.to_owned()))) {
            added.pid = Some(*pid);
        }
        (format!("start {e} in {c}"), started.map(drop), self.model.start_exec(c, e))
    }

    /// Where there is no keeper to ask.
    fn nothing(&self) -> (String, Result<(), Status>, Answer) {
        ("nothing".to_owned(), Ok(()), Ok(()))
    }

    /// One of these interfaces that can be asked about what is in this sandbox.
    fn door(&mut self, of: &[Door], sandbox: &str) -> Door {
        match of[self.chance.below(of.len())] {
            Door::Keeper if !self.has_keeper(sandbox) => Door::Tasks,
            door => door,
        }
    }

    fn has_keeper(&self, sandbox: &str) -> bool {
        self.model.sandboxes.get(sandbox).is_some_and(|standing| *standing != Standing::Stopped)
    }

    /// One that ends by itself, or one that has to be killed.
    fn program(&mut self) -> (bool, Vec<String>) {
        let brief = self.chance.below(3) == 0;
        let args: &[&str] = if brief { &["sh", "-c", "exit 3"] } else { &["sleep", "1000"] };
        (brief, args.iter().map(|&word| word.to_owned()).collect())
    }

    /// A process that was added to a container, or one that nobody knows, and an interface that has a name for it.
    fn process(&mut self, of: &[Door], c: &str, at: &str) -> (String, Added, Door) {
        let execs = self.model.containers.get(c).into_iter().flat_map(|there| there.execs.keys());
        let names: Vec<_> = execs.cloned().chain(["nobody".to_owned()]).collect();
        let name = names[self.chance.below(names.len())].clone();
        let Some(added) = self.added.get(&(c.to_owned(), name.clone())).cloned() else {
            return (name, Added::default(), self.door(of, at));
        };
        let knows = |door: &&Door| match door {
            Door::Keeper => added.exec.is_some() && self.has_keeper(at),
            _ => added.pid.is_some(),
        };
        let of: Vec<_> = of.iter().filter(knows).copied().collect();
        // Without a keeper nobody can name what never was started.
        let Some(last) = of.len().checked_sub(1) else {
            return ("nobody".to_owned(), Added::default(), Door::Tasks);
        };
        (name, added, of[self.chance.below(last + 1)])
    }

    /// A status that was answered, of what is in a sandbox that nobody stopped: then it is SIGTERM for some.
    fn ended_with(&self, at: &str, ended: &Result<Option<u32>, Status>, status: u32) {
        if let (Ok(Some(ended)), Some(Standing::Ready)) = (ended, self.model.sandboxes.get(at)) {
            assert_eq!(*ended, status, "{}", self.so_far());
        }
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
            let shown = self.shown(all).await;
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

    /// Brings both sandboxes back to where they were, empty; then what was told of this story made sense. Answers how many
    /// steps it had.
    pub async fn end(mut self) -> usize {
        self.agree(true).await;
        for s in SANDBOXES {
            match self.model.sandboxes.get(s) {
                Some(Standing::Ready) => {}
                Some(Standing::Paused) => {
                    self.doors.resume_sandbox(s).await.unwrap();
                    self.model.stand(s, Standing::Ready).unwrap();
                }
                _ => {
                    self.doors.shutdown_sandbox(s).await.unwrap();
                    self.model.shutdown_sandbox(s).unwrap();
                    self.doors.run_sandbox(s, MEMORY_MIB).await.unwrap();
                    self.model.run_sandbox(s).unwrap();
                }
            }
        }
        for (c, container) in self.model.containers.clone() {
            if container.init != Phase::Stopped {
                self.doors.kill(Door::Tasks, &c, &container.sandbox, None).await.unwrap();
                self.model.kill(&c).unwrap();
            }
        }
        self.agree(true).await;
        for (c, container) in self.model.containers.clone() {
            self.doors.delete(Door::Tasks, &c, &container.sandbox, None).await.unwrap();
            self.model.delete(&c, false).unwrap();
        }
        for record in std::mem::take(&mut self.model.records) {
            self.doors.drop_record(&record).await.unwrap();
        }
        self.agree(true).await;
        self.hear().await;
        self.steps.len()
    }

    /// started → (execs) → exited, as often as a container was started; nothing twice, and init last.
    async fn hear(&mut self) {
        // Pids that live, by container: init's and the others'.
        let mut live = BTreeMap::<String, (u32, BTreeSet<u32>)>::new();
        let mut told = Vec::new();
        loop {
            // All has ended, so what is not told yet is on its way.
            let patience = if live.is_empty() { Duration::ZERO } else { PATIENCE };
            let Ok(next) = tokio::time::timeout(patience, self.events.message()).await else { break };
            let event = next.unwrap().expect("the events go on");
            let (c, pid) = (event.id.clone(), event.pid);
            let fine = match event.r#type.as_str() {
                "start-container" => live.insert(c, (pid, BTreeSet::new())).is_none(),
                "start-process" => live.get_mut(&c).is_some_and(|(_, execs)| execs.insert(pid)),
                "exit" => match live.get_mut(&c) {
                    Some((init, execs)) if *init == pid => execs.is_empty() && live.remove(&c).is_some(),
                    Some((_, execs)) => execs.remove(&pid),
                    None => false,
                },
                _ => true,
            };
            told.push(event);
            assert!(fine, "the last of these was told out of order: {told:#?} {}", self.so_far());
        }
        assert!(live.is_empty(), "the end of {live:?} was not told: {}", self.so_far());
    }
}
