//! thecad killed at any moment, before or after any document is written, while a call, an exit or a death of something else is
//! under way: the next one finds each sandbox and each process as its keeper has it, tells everything once, and in the end
//! nothing is left. What a reader may not have got when its node died is told again under the same number.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::events::{Event, Subscription, Told};
use super::keeper::Keeper;
use super::model_test::check;
use super::sandbox::Standing;
use super::task::{Exec, Phase, Whom};
use super::testing::chance::Chance;
use super::testing::{Bench, container, sandbox, word};
use super::values::Io;
use super::{Node, ProcessName};
use crate::id::Namespace;

/// Stories, and steps of each.
const STORIES: u64 = 4_000;
const STEPS: usize = 16;
/// Of documents, until a kill.
const MOMENTS: usize = 24;

const SANDBOXES: [&str; 2] = ["s0", "s1"];
/// The last is one of 2015: its exit deletes it.
const CONTAINERS: [&str; 3] = ["c0", "c1", PASSING];
const PASSING: &str = "c2";
/// The last is one of 2015: it goes with its exit.
const EXECS: [&str; 2] = ["e0", PASSING_EXEC];
const PASSING_EXEC: &str = "e1";

/// What a reader was told by one node after the other.
#[derive(Default)]
struct Ears {
    events: Option<Subscription>,
    told: Vec<Arc<Event>>,
}

impl Ears {
    /// Takes what was told by now. What a dead node's connection may not have got is told again, under its number.
    fn hear(&mut self) {
        let Some(events) = &mut self.events else { return };
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Told::Event(event))) = std::pin::pin!(events.next()).poll(&mut context) {
            match self.told.iter().find(|told| told.number == event.number) {
                Some(told) => assert!(same(told, &event), "{told:?} was told again as {event:?}"),
                None => self.told.push(event),
            }
        }
    }
}

/// The same process' same event.
fn same(one: &Event, other: &Event) -> bool {
    (&one.sandbox, &one.container, word(&one.what)) == (&other.sandbox, &other.container, word(&other.what))
}

struct Story {
    bench: Bench,
    chance: Chance,
    ears: Arc<Mutex<Ears>>,
    kills: usize,
    steps: Vec<String>,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let (bench, ears) = (Bench::new().await, Arc::default());
        let mut story =
            Self { bench, chance: Chance(seed), ears, kills: 0, steps: vec![format!("seed {seed}")] };
        story.listen().await;
        story
    }

    async fn listen(&mut self) {
        let (node, ns, ears) = (&self.bench.node, &self.bench.namespace, self.ears.clone());
        ears.lock().unwrap().events = Some(node.subscribe(ns));
        let bus = node.shared.bus.clone();
        self.bench.life.at_its_end(move || {
            let mut ears = ears.lock().unwrap();
            ears.hear();
            // What the dying node says is neither heard nor written down.
            ears.events = None;
            bus.kill();
        });
        self.bench.life.ends_after(Some(self.chance.below(MOMENTS)));
    }

    /// Something is asked, or happens by itself; then the node may be dead.
    async fn step(&mut self) {
        let (s, c, e) =
            (self.chance.pick(&SANDBOXES), self.chance.pick(&CONTAINERS), self.chance.pick(&EXECS));
        let verb = self.chance.below(22);
        self.steps.push(format!("{verb} {s} {c} {e}"));
        let (node, ns) = (self.bench.node.clone(), self.bench.namespace.clone());
        let keeper = self.bench.keepers.find(&ns, &s.parse().unwrap());
        match (verb, keeper) {
            (16, Some(keeper)) => keeper.exit(&container(c), None, 1),
            (17, Some(keeper)) => keeper.exit(&container(c), Some(&e.parse().unwrap()), 2),
            (18, Some(keeper)) => keeper.die(),
            (19, Some(keeper)) => keeper.vm_dies("it panicked"),
            _ => {
                let mut task = self.bench.task(c, (verb != 8).then_some(s));
                task.delete_at_exit = c == PASSING;
                let call = ask(&node, &ns, verb, s, c, e, task);
                tokio::select! {
                    () = self.bench.life.over() => {}
                    () = call => {}
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        if self.bench.life.is_over() {
            self.kills += 1;
            self.steps.push("killed".into());
            self.bench.restart().await;
            self.listen().await;
            self.agree().await;
        }
    }

    /// What the node knows is what there is.
    async fn agree(&mut self) {
        // Only what was under way before is looked at, so nothing dies meanwhile.
        self.bench.life.ends_after(None);
        // A keeper takes its time to forget a process that is to go.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (node, ns) = (&self.bench.node, &self.bench.namespace);
        let mut running = 0;
        for shown in node.sandboxes(ns).await.unwrap() {
            let keeper = self.bench.keepers.find(ns, &shown.id);
            let runs = matches!(shown.standing, Standing::Ready | Standing::Paused);
            // The keeper of one whose VM is over stays until its tasks are deleted.
            assert!(keeper.is_some() || !runs, "{} has no keeper: {:#?}", shown.id, self.steps);
            assert!(keeper.is_none() || shown.standing != Standing::Created, "{:#?}", self.steps);
            running += usize::from(keeper.is_some());
            let Some(keeper) = keeper else { continue };
            let frozen = shown.standing == Standing::Paused;
            assert!(!runs || frozen == keeper.is_frozen(), "{}: {:#?}", shown.id, self.steps);
            let here = keeper.containers();
            if !runs {
                // Nobody asks its keeper any more, which goes with the last of its tasks.
                let kept =
                    !shown.containers.is_empty() && shown.containers.iter().all(|id| here.contains(id));
                assert!(kept, "{:?} of {here:?} in {}: {:#?}", shown.containers, shown.id, self.steps);
                continue;
            }
            assert_eq!(shown.containers, here, "{}: {:#?}", shown.id, self.steps);
            for id in shown.containers {
                let known = node.processes(ns, &id).await.unwrap();
                let known: Vec<_> = known.iter().map(|one| (&one.exec, one.phase)).collect();
                let there = keeper.processes(&id).await.unwrap();
                // As a caller sees it: what runs in a frozen container is frozen, and with its init all has ended.
                let shown = |phase| match (there[0].phase, phase) {
                    (Phase::Paused, Phase::Running) => Phase::Paused,
                    (Phase::Stopped, _) => Phase::Stopped,
                    (_, phase) => phase,
                };
                let there: Vec<_> = there.iter().map(|one| (&one.exec, shown(one.phase))).collect();
                assert_eq!(known, there, "{id}: {:#?}", self.steps);
            }
        }
        assert_eq!(running, self.bench.keepers.count(), "{:#?}", self.steps);
        for task in node.tasks(ns).await.unwrap().iter().filter(|task| task.container.as_str() == PASSING) {
            let lives = matches!(task.init.phase, Phase::Running | Phase::Paused);
            // Where everything stands still nothing is deleted.
            let home = node.sandbox_status(ns, &task.sandbox, false).await.unwrap();
            let stays = home.standing == Standing::Paused;
            assert!(lives || stays, "{:?} stays: {:#?}", task.init, self.steps);
        }
        self.ears.lock().unwrap().hear();
        self.bench.life.ends_after(Some(self.chance.below(MOMENTS)));
    }

    /// Everything is ended; then nothing is left, and all was told of once. Answers how often the node was killed.
    async fn end(self) -> usize {
        let (node, ns) = (&self.bench.node, &self.bench.namespace);
        self.bench.life.ends_after(None);
        for shown in node.sandboxes(ns).await.unwrap() {
            node.shutdown_sandbox(ns, &shown.id, None).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(self.bench.keepers.count(), 0, "{:#?}", self.steps);
        assert_eq!(self.bench.journal_files(), 0, "{:#?}", self.steps);
        self.ears.lock().unwrap().hear();
        node.close().await;
        let ears = self.ears.lock().unwrap();
        let told = &ears.told;
        for id in CONTAINERS {
            let of_this =
                told.iter().filter(|event| event.container.as_ref().is_some_and(|one| one.as_str() == id));
            let words =
                of_this.clone().map(|event| format!("told: {} {id} {}", event.sandbox, word(&event.what)));
            let story: Vec<_> = self.steps.iter().cloned().chain(words).collect();
            check(of_this.map(|event| &event.what), &story);
        }
        self.kills
    }
}

/// Whatever is answered: the next node decides what became of it.
async fn ask(
    node: &Node,
    ns: &Namespace,
    verb: usize,
    s: &str,
    c: &str,
    e: &str,
    task: super::task::CreateTask,
) {
    let (name, s, c, exec) = (s, s.parse().unwrap(), container(c), e.parse().unwrap());
    let named = ProcessName::Exec(e.parse().unwrap());
    let forget = e == PASSING_EXEC;
    let added = Exec { exec: Some(exec), spec: b"{}".to_vec(), io: Io::default(), forget };
    match verb {
        0..=2 => drop(node.run_sandbox(ns, sandbox(name)).await),
        3 => drop(node.stop_sandbox(ns, &s, None).await),
        4 => drop(node.shutdown_sandbox(ns, &s, None).await),
        5..=8 => {
            let _ = node.create_task(ns, task).await;
            let _ = node.start_task(ns, &c).await;
        }
        9 => drop(node.kill(ns, &c, &Whom::All, 9).await),
        10 => drop(node.delete_task(ns, &c, true).await),
        11 | 12 => drop(node.exec(ns, &c, added).await),
        13 => drop(node.kill(ns, &c, &Whom::Process(named), 9).await),
        20 => drop(node.pause_sandbox(ns, &s).await),
        21 => drop(node.resume_sandbox(ns, &s).await),
        14 => drop(node.delete_process(ns, &c, &named).await),
        _ => {
            let _ = node.pause_task(ns, &c).await;
            let _ = node.resume_task(ns, &c).await;
        }
    }
}

#[test]
fn a_node_that_is_killed_at_any_moment_loses_nothing_and_leaves_nothing() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let kills = std::thread::scope(|scope| {
        let tell = move |worker: u64| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build().unwrap();
            let mut kills = 0;
            for seed in (0..STORIES).filter(|seed| seed % workers == worker) {
                kills += runtime.block_on(async {
                    let mut story = Story::begin(seed).await;
                    for _ in 0..STEPS {
                        story.step().await;
                    }
                    story.end().await
                });
            }
            kills
        };
        let all: Vec<_> = (0..workers).map(|worker| scope.spawn(move || tell(worker))).collect();
        all.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
    });
    assert!(kills > STORIES as usize, "only {kills} kills");
}
