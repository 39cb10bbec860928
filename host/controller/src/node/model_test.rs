//! Random stories: calls of every interface, a keeper's own task API and blows of fate, in any order, against the model.
//! Every answer is the model's, and so is the state whenever it is looked at; at the end the events make sense and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::events::{Subscription, Told, What};
use super::keeper::Keeper;
use super::sandbox::{Resize, Standing, UpdateSandbox, Wish};
use super::store::SandboxRecord;
use super::task::{Exec, Phase, Whom};
use super::testing::chance::Chance;
use super::testing::model::{Answer, Model};
use super::testing::{Bench, container, sandbox};
use super::values::Io;
use super::{ProcessName, Result};
use crate::sandbox::allowance::CpuQuota;

/// Stories, and steps of each.
const STORIES: u64 = 20_000;
const STEPS: usize = 12;
/// Steps between two looks at everything.
const LOOK: usize = 4;

const SANDBOXES: [&str; 2] = ["s0", "s1"];
const CONTAINERS: [&str; 3] = ["c0", "c1", "c2"];
const EXECS: [&str; 2] = ["e0", "e1"];

struct Story {
    bench: Bench,
    model: Model,
    chance: Chance,
    events: Subscription,
    told: Vec<(Option<String>, What)>,
    steps: Vec<String>,
}

fn answer<T>(answer: Result<T>) -> Answer {
    answer.map(drop).map_err(|error| error.kind())
}

fn record(id: &crate::id::SandboxId) -> SandboxRecord {
    SandboxRecord::new(id.clone())
}

/// Of what all containers of a sandbox may use.
fn limit(chance: &mut Chance) -> (Option<u64>, UpdateSandbox) {
    let millis = [None, Some(300), Some(700)][chance.below(3)];
    let cpu = millis.map_or(Wish::All, |millis| Wish::AtMost(CpuQuota::new(millis * 100, 100_000).unwrap()));
    let resources = Some(Resize { cpu, ..Resize::default() });
    (millis, UpdateSandbox { resources, ..UpdateSandbox::default() })
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let bench = Bench::new().await;
        let events = bench.node.subscribe(&bench.namespace);
        Self {
            bench,
            model: Model::default(),
            chance: Chance(seed),
            events,
            told: Vec::new(),
            steps: vec![format!("seed {seed}")],
        }
    }

    async fn step(&mut self) {
        let (s, c, e) =
            (self.chance.pick(&SANDBOXES), self.chance.pick(&CONTAINERS), self.chance.pick(&EXECS));
        let (node, ns) = (self.bench.node.clone(), self.bench.namespace.clone());
        let (sid, cid) = (s.parse().unwrap(), container(c));
        let eid: crate::id::ExecId = e.parse().unwrap();
        let exec = || Exec {
            exec: Some(e.parse().unwrap()),
            spec: b"{}".to_vec(),
            io: Io::default(),
            forget: false,
        };
        let model = &mut self.model;
        // By exec id or, for an interface that knows none, by pid.
        let mut named = ProcessName::Exec(eid.clone());
        if self.chance.below(2) == 0
            && let Ok(process) = node.process(&ns, &cid, &named).await
            && process.pid != 0
        {
            named = ProcessName::Pid(process.pid);
        }
        let verb = self.chance.below(30);
        let (said, meant) = match verb {
            0 => (answer(node.run_sandbox(&ns, sandbox(s)).await), model.run_sandbox(s)),
            1 => (answer(node.stop_sandbox(&ns, &sid, None).await), model.stop_sandbox(s)),
            2 => (answer(node.shutdown_sandbox(&ns, &sid, None).await), model.shutdown_sandbox(s)),
            3 => (answer(node.pause_sandbox(&ns, &sid).await), model.stand(s, Standing::Paused)),
            4 | 5 => (answer(node.resume_sandbox(&ns, &sid).await), model.stand(s, Standing::Ready)),
            6 | 7 => {
                (answer(node.create_task(&ns, self.bench.task(c, Some(s))).await), model.create(c, Some(s)))
            }
            8 => (answer(node.create_task(&ns, self.bench.task(c, None)).await), model.create(c, None)),
            9 | 10 => (answer(node.start_task(&ns, &cid).await), model.start(c)),
            11 => (answer(node.kill(&ns, &cid, &Whom::All, 9).await), model.kill(c)),
            12 => (answer(node.delete_task(&ns, &cid, false).await), model.delete(c, false)),
            13 => (answer(node.delete_task(&ns, &cid, true).await), model.delete(c, true)),
            14 | 15 => (answer(node.exec(&ns, &cid, exec()).await), model.exec(c, e)),
            16 => (answer(node.add_process(&ns, &cid, exec()).await), model.add(c, e)),
            17 => (answer(node.start_process(&ns, &cid, &named).await), model.start_exec(c, e)),
            18 => {
                (answer(node.kill(&ns, &cid, &Whom::Process(named.clone()), 9).await), model.kill_exec(c, e))
            }
            19 => (answer(node.delete_process(&ns, &cid, &named).await), model.delete_exec(c, e)),
            20 => (answer(node.pause_task(&ns, &cid).await), model.freeze(c, Phase::Running, Phase::Paused)),
            21 => (answer(node.resume_task(&ns, &cid).await), model.freeze(c, Phase::Paused, Phase::Running)),
            22 => (self.fate(s, c, e).await, Ok(())),
            24 => {
                let labels = Some([("team".to_owned(), "blue".to_owned())].into());
                let update = UpdateSandbox { labels, ..UpdateSandbox::default() };
                (answer(node.update_sandbox(&ns, &sid, update).await), model.update_sandbox(s))
            }
            25 => (answer(node.create_sandbox_record(&ns, record(&sid)).await), model.keep_record(s)),
            26 => {
                let paths = vec!["labels".into()];
                (answer(node.update_sandbox_record(&ns, record(&sid), paths).await), model.change_record(s))
            }
            27 => (answer(node.delete_sandbox_record(&ns, &sid).await), model.drop_record(s)),
            28 => {
                let (millis, update) = limit(&mut self.chance);
                (answer(node.update_sandbox(&ns, &sid, update).await), model.limit_sandbox(s, millis))
            }
            29 => {
                // Whoever asked has gone before there is an answer.
                let (millis, update) = limit(&mut self.chance);
                let given_up = node.update_sandbox(&ns, &sid, update);
                let _ = tokio::time::timeout(Duration::ZERO, given_up).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                let _ = model.limit_sandbox(s, millis);
                (Ok(()), Ok(()))
            }
            _ => (self.behind(s, c).await, Ok(())),
        };
        self.steps.push(format!("{verb} {s} {c} {e}: {said:?}"));
        assert_eq!(said, meant, "{:#?}", self.steps);
        if self.chance.below(2) == 0 {
            self.hear().await;
        }
    }

    /// What nobody asked for.
    async fn fate(&mut self, s: &'static str, c: &'static str, e: &'static str) -> Answer {
        let home = self.model.containers.get(c).map(|container| container.sandbox.clone());
        let keeper = |id: &str| self.bench.keepers.find(&self.bench.namespace, &id.parse().unwrap());
        match (self.chance.below(6), keeper(s), home.as_deref().and_then(keeper)) {
            (0, Some(keeper), _) => {
                keeper.die();
                self.model.lose(s);
            }
            (1, Some(keeper), _) => {
                keeper.vm_dies("it panicked");
                self.model.lose(s);
            }
            (2, _, Some(keeper)) => {
                keeper.exit(&container(c), None, 1);
                self.model.ends(c, None);
            }
            (3, _, Some(keeper)) => {
                keeper.exit(&container(c), Some(&e.parse().unwrap()), 2);
                self.model.ends(c, Some(e));
            }
            (4 | 5, ..) => {
                // Some of what was told has reached the reader, and the rest is told by the next process.
                let (heard, orderly) = (self.chance.below(2) == 0, self.chance.below(2) == 0);
                if heard {
                    self.hear().await;
                }
                self.steps.push(format!("thecad ends: heard {heard}, orderly {orderly}"));
                match orderly {
                    true => self.bench.restart().await,
                    false => self.bench.kill().await,
                }
                self.events = self.bench.node.subscribe(&self.bench.namespace);
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(())
    }

    /// What somebody does at a keeper's own task API.
    async fn behind(&mut self, s: &'static str, c: &'static str) -> Answer {
        let home = self.model.containers.get(c).map(|container| container.sandbox.clone());
        let at = home.as_deref().unwrap_or(s);
        let Some(keeper) = self.bench.keepers.find(&self.bench.namespace, &at.parse().unwrap()) else {
            return Ok(());
        };
        let stopped = self.model.sandboxes.get(at) == Some(&Standing::Stopped);
        match home {
            None if keeper
                .start(&container("nobody"), None)
                .await
                .is_err_and(|error| error.is_not_found())
                && !stopped =>
            {
                self.bench.make_at(&*keeper, c).await;
                let _ = (self.model.create(c, Some(s)), self.model.start(c));
            }
            Some(_) if keeper.kill(&container(c), None, 9, true).await.is_ok() => drop(self.model.kill(c)),
            _ => {}
        }
        Ok(())
    }

    async fn compare(&mut self) {
        let (node, ns) = (&self.bench.node, &self.bench.namespace);
        let sandboxes = node.sandboxes(ns).await.unwrap().into_iter();
        let sandboxes: BTreeMap<_, _> = sandboxes.map(|one| (one.id.to_string(), one.standing)).collect();
        assert_eq!(sandboxes, self.model.sandboxes, "{:#?}", self.steps);
        for id in self.model.sandboxes.keys() {
            let status = node.sandbox_status(ns, &id.parse().unwrap(), true).await.unwrap();
            let told = status.resources.allowance.cpu.map(|quota| quota.millis());
            assert_eq!(told, self.model.limits.get(id).copied(), "{id}: {:#?}", self.steps);
            if status.info.contains_key("keeper_pid") {
                let in_force = status.info.get("cpu_limit_milli").map(|limit| limit.parse().unwrap());
                assert_eq!(in_force, told, "{id}: {:#?}", self.steps);
            }
        }
        let records = node.sandbox_records(ns, &[]).unwrap().into_iter();
        assert_eq!(records.map(|one| one.id.to_string()).collect::<BTreeSet<_>>(), self.model.records);
        let tasks: Vec<_> =
            node.tasks(ns).await.unwrap().iter().map(|task| task.container.to_string()).collect();
        let meant: Vec<_> = self.model.containers.keys().cloned().collect();
        assert_eq!(tasks, meant, "{:#?}", self.steps);
        for (id, meant) in &self.model.containers {
            let processes = node.processes(ns, &container(id)).await.unwrap();
            let shown: Vec<_> = processes
                .iter()
                .map(|one| (one.exec.as_ref().map(|exec| exec.to_string()), one.phase))
                .collect();
            assert_eq!(shown, meant.shown(), "{id}: {:#?}", self.steps);
            for process in processes.iter().filter(|process| process.phase == Phase::Stopped) {
                let name = process.exec.clone().map_or(ProcessName::Init, ProcessName::Exec);
                assert_eq!(node.wait(ns, &container(id), &name).await.unwrap(), process.exit.unwrap());
            }
        }
        self.hear().await;
    }

    /// Takes the events that were told by now, until they have reached the reader.
    async fn hear(&mut self) {
        while let Ok(Some(Told::Event(event))) =
            tokio::time::timeout(Duration::from_millis(50), self.events.next()).await
        {
            self.told.push((event.container.as_ref().map(|id| id.to_string()), event.what.clone()));
        }
    }

    /// Everything is deleted; then nothing is left, and each container was told of from its creation to its deletion.
    async fn end(mut self) {
        let (node, ns) = (self.bench.node.clone(), self.bench.namespace.clone());
        for id in self.model.sandboxes.keys() {
            node.shutdown_sandbox(&ns, &id.parse().unwrap(), None).await.unwrap();
        }
        self.hear().await;
        assert_eq!(self.bench.keepers.count(), 0, "{:#?}", self.steps);
        assert_eq!(self.bench.journal_files(), 0, "{:#?}", self.steps);
        for id in CONTAINERS {
            let told = self.told.iter().filter(|(container, _)| container.as_deref() == Some(id));
            check(told.map(|(_, what)| what), &self.steps);
        }
        node.close().await;
    }
}

/// created → started → (execs) → exited → deleted, as often as the container was made; nothing twice.
pub fn check<'a>(told: impl Iterator<Item = &'a What>, steps: &[String]) {
    let mut init = None;
    let mut execs: BTreeMap<String, Phase> = BTreeMap::new();
    for what in told {
        let fine = match what {
            What::Created { .. } => init.replace(Phase::Created).is_none(),
            What::Started { .. } => init.replace(Phase::Running) == Some(Phase::Created),
            What::Paused => init.replace(Phase::Paused) == Some(Phase::Running),
            What::Resumed => init.replace(Phase::Running) == Some(Phase::Paused),
            What::Exited { exec: None, .. } => {
                let live = execs.values().any(|phase| *phase == Phase::Running);
                !live && init.replace(Phase::Stopped).is_some_and(|phase| phase != Phase::Stopped)
            }
            What::Deleted { exec: None, .. } => {
                execs.clear();
                init.take() == Some(Phase::Stopped)
            }
            What::ExecAdded { exec } => execs.insert(exec.to_string(), Phase::Created).is_none(),
            What::ExecStarted { exec, .. } => {
                execs.insert(exec.to_string(), Phase::Running) == Some(Phase::Created)
            }
            What::Exited { exec: Some(exec), .. } => {
                execs.insert(exec.to_string(), Phase::Stopped) == Some(Phase::Running)
            }
            What::Deleted { exec: Some(exec), .. } => execs.remove(exec.as_str()) != Some(Phase::Running),
            _ => true,
        };
        assert!(fine, "{what:?} was told out of order: {steps:#?}");
    }
    assert_eq!(init, None, "{steps:#?}");
}

fn tell(seeds: impl Iterator<Item = u64>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    for seed in seeds {
        runtime.block_on(async {
            let mut story = Story::begin(seed).await;
            for step in 1..=STEPS {
                story.step().await;
                if step % LOOK == 0 {
                    story.compare().await;
                }
            }
            story.end().await;
        });
    }
}

#[test]
fn no_story_leads_node_and_model_apart() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || tell((0..STORIES).filter(move |seed| seed % workers == worker)));
        }
    });
}
