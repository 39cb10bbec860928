//! One story: its steps, what is answered to them, and its end.

mod agreement;
mod drawing;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::time::{Duration, Instant};

use theca_controller::node::Kind;
use theca_controller::node::sandbox::Standing;
use theca_controller::node::testing::chance::Chance;
use theca_controller::node::testing::model::Model;
use theca_proto::types::Event;
use tonic::{Code, Status, Streaming};

use crate::doors::{Added, Door, Doors};
use crate::heard;
use crate::step::{Step, Verb};

pub const SANDBOXES: [&str; 2] = ["s0", "s1"];
pub const CONTAINERS: [&str; 3] = ["c0", "c1", "c2"];
pub const MEMORY_MIB: u64 = 96;
/// A limit of processors that is asked for in vain.
const LESS_MILLIS: u64 = 400;

/// What was asked for shows in this time.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// No call takes longer, not even a boot where KVM is emulated.
const CALL: Duration = Duration::from_secs(180);
/// What takes longer is told.
const SLOW: Duration = Duration::from_secs(20);

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
    /// Containers to which a process has been added.
    peopled: BTreeSet<String>,
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
        let (fleeting, peopled, added, steps) = Default::default();
        Self { doors, events, model, chance, fleeting, peopled, added, seed, steps }
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
        // A paused VM's keeper says that first, whatever else is the matter; and the Shim of what is not there says it as of old.
        let paused = self.model.sandboxes.get(step.sandbox) == Some(&Standing::Paused);
        let absent = step.door == Door::Shim && !before.containers.contains_key(step.container);
        let excused = (paused || absent) && meant.is_err() && kind == Err(Kind::FailedPrecondition);
        assert!(kind == meant || excused, "{kind:?} instead of {meant:?}: {}", self.so_far());
        if let Ok(number) = said {
            self.note(&step, number);
        }
        // What changes although it should not shows at the next look.
        if self.model != before {
            self.agree(false).await;
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
            Verb::LimitSandbox => doors.limit_sandbox(s, Some(step.millis)).await,
            Verb::LimitAfterAnother => {
                // The one that is told OK is in force, whether the other is over by then.
                let patience = Duration::from_millis(step.millis / 20);
                doors.limit_sandbox_and_go(s, Some(LESS_MILLIS), patience).await;
                doors.limit_sandbox(s, Some(step.millis)).await
            }
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
        if matches!(verb, Verb::Exec | Verb::Add) {
            self.peopled.insert(key.0.clone());
        }
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
            // One that was never started has nothing to tell.
            Verb::DeleteAdded => {
                if let Some(Added { pid: Some(_), brief, .. }) = self.added.get(&key) {
                    self.ended_with(step, number, if *brief { BY_ITSELF } else { KILLED });
                }
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
    #[track_caller]
    fn in_time<T>(&self, answer: impl Future<Output = T>) -> impl Future<Output = T> {
        let asked = Location::caller();
        async move {
            let begun = Instant::now();
            let answer = tokio::time::timeout(CALL, answer).await;
            let late = |_| panic!("nothing was answered in {CALL:?} at {asked}: {}", self.so_far());
            let answer = answer.unwrap_or_else(late);
            self.tell_if_slow(&format!("the answer at {asked}"), begun);
            answer
        }
    }

    fn tell_if_slow(&self, what: &str, begun: Instant) {
        if begun.elapsed() > SLOW {
            crate::say(&format!("{:.1?} until {what}: {}", begun.elapsed(), self.so_far()));
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
        for s in self.model.limits.clone().into_keys() {
            self.in_time(self.doors.limit_sandbox(&s, None)).await.unwrap();
            self.model.limit_sandbox(&s, None).unwrap();
        }
        for (c, container) in self.model.containers.clone() {
            if self.fleeting.contains(&c) {
                self.in_time(self.doors.kill(Door::Tasks, &c, &container.sandbox, None)).await.unwrap();
                self.model.kill(&c).unwrap();
            } else {
                // Its Delete ends what runs, and waits for that.
                self.in_time(self.doors.delete(Door::Shim, &c, &container.sandbox, None)).await.unwrap();
                self.model.delete(&c, true).unwrap();
            }
        }
        for record in std::mem::take(&mut self.model.records) {
            self.in_time(self.doors.drop_record(&record)).await.unwrap();
        }
        self.agree(false).await;
        let begun = Instant::now();
        if let Err(unfit) = heard::to_the_end(self.events).await {
            panic!("{unfit}: {}", self.so_far());
        }
        self.tell_if_slow("the last event", begun);
        self.steps.len()
    }
}
