//! Processes of Theca's own are killed at random moments while containers come and go: nothing is left, and nothing is lost.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use theca_proto::types::Event;
use theca_tests::{Census, Client, Theca, Thecad, eventually};
use tonic::{Code, Status};

use super::{CLIENTS, MEMORY_MIB, Over, RECOVERY, alone, disk, run, scaled, variable};

/// Processes that are killed.
const KILLS: usize = 50;
/// They are over by then, or nobody is there to be killed.
const TIME: Duration = Duration::from_secs(900);
/// Containers at a time in each sandbox.
const CONTAINERS: usize = 3;

/// Numbers that nobody foresees, but who knows the seed.
struct Random(u64);

impl Random {
    /// A number below `bound`, by xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// One sandbox and the containers that come and go in it, several at a time, whatever is killed meanwhile.
struct Worker<'a> {
    socket: &'a Path,
    disk: &'a Path,
    sandbox: String,
    client: Client,
    /// Containers that ran and whose exit was fetched.
    ended: Vec<String>,
}

impl<'a> Worker<'a> {
    fn new(socket: &'a Path, disk: &'a Path, number: usize) -> Self {
        Self { socket, disk, sandbox: format!("pod{number}"), client: connect(socket), ended: Vec::new() }
    }

    /// Asks until there is an answer; `None` if that is that there is no such thing. Tells too whether an answer may have
    /// been lost before.
    fn insist<T>(&mut self, what: &str, ask: impl Fn(&Self) -> Result<T, Status>) -> (Option<T>, bool) {
        let (begun, mut lost) = (Instant::now(), false);
        loop {
            match ask(self) {
                Ok(answer) => return (Some(answer), lost),
                Err(error) if error.code() == Code::NotFound => return (None, lost),
                Err(error) if begun.elapsed() > RECOVERY => panic!("{what} in {}: {error}", self.sandbox),
                Err(error) => lost |= error.code() != Code::FailedPrecondition,
            }
            thread::sleep(Duration::from_millis(50));
            self.client = connect(self.socket);
        }
    }

    /// A sandbox that takes containers: this one, or another one in its place.
    fn open(&mut self) {
        let start = |this: &Self| {
            match this.client.create_sandbox(&this.sandbox, MEMORY_MIB) {
                Err(error) if error.code() != Code::AlreadyExists => return Err(error),
                _ => {}
            }
            this.client.start_sandbox(&this.sandbox).map_err(|error| {
                // It has ended. Whatever is the matter with this call, the next attempt finds out.
                let _ = this.client.shutdown_sandbox(&this.sandbox);
                Status::unavailable(error.message())
            })
        };
        self.insist("start", start);
    }

    /// Containers come and go together, as far as the killing lets them.
    fn cycle(&mut self, number: usize) -> Result<(), Status> {
        let ids: Vec<_> = (0..CONTAINERS).map(|at| format!("{}-{number}-{at}", self.sandbox)).collect();
        let run = |id: &String| {
            run(&self.client, id, &self.sandbox, Some(self.disk))
                .and_then(|()| self.client.exec(id, &["true"]).map(drop))
        };
        let ran: Vec<_> = ids.iter().map(run).collect();
        for (id, ran) in ids.iter().zip(&ran) {
            self.end(id, ran.is_ok());
        }
        ran.into_iter().collect()
    }

    /// Its exit is fetched by the one Delete that finds it.
    fn end(&mut self, id: &str, ran: bool) {
        let delete = |this: &Self| {
            // What has ended cannot be killed; what cannot be asked now is asked again.
            let _ = this.client.kill(id);
            this.client.delete(id)
        };
        let (status, lost) = self.insist("delete", delete);
        assert!(status.is_none_or(|status| status == 137), "{id} ended with {status:?}");
        assert!(!ran || status.is_some() || lost, "{id} has gone, and its exit was not told");
        if ran && status.is_some() {
            self.ended.push(id.to_owned());
        }
        self.insist("forget", |this| this.client.forget(id));
        // It is gone, and is not found a second time.
        assert_eq!(self.insist("delete", |this| this.client.delete(id)).0, None, "{id} was deleted twice");
    }
}

fn connect(socket: &Path) -> Client {
    theca_tests::wait_for("thecad to serve", || Client::connect(socket).ok())
}

/// Events as one client got them that came back whenever its connection broke.
#[derive(Default)]
struct Story {
    /// With the connection that they came by, and when.
    told: Vec<(Event, usize, Instant)>,
    /// When each connection broke.
    broken: Vec<Instant>,
}

impl Story {
    /// Listens until it is `over`, and a moment longer.
    fn listen(socket: &Path, over: &AtomicBool) -> Self {
        let mut story = Self::default();
        loop {
            // Thecad may be killed before it answers.
            let Ok(mut events) = connect(socket).events() else { continue };
            loop {
                match events.next(Duration::from_secs(3)) {
                    Ok(Some(event)) => story.told.push((event, story.broken.len(), Instant::now())),
                    Ok(None) if over.load(Ordering::SeqCst) => return story,
                    Ok(None) => {}
                    Err(_) => break,
                }
            }
            story.broken.push(Instant::now());
        }
    }

    /// Nothing was lost: the end of each of these was told. Nothing was doubled, but for what was on its way when thecad was
    /// killed (`docs/recovery.md`).
    fn check(&self, ended: &[String]) {
        let exits: HashSet<&str> = self
            .told
            .iter()
            .filter(|(event, ..)| event.r#type == "exit")
            .map(|(event, ..)| &*event.id)
            .collect();
        let lost: Vec<_> = ended.iter().filter(|id| !exits.contains(id.as_str())).collect();
        assert!(lost.is_empty(), "the ends of {lost:?} were not told");
        let mut first = HashMap::new();
        for (event, connection, at) in &self.told {
            let what = (&event.r#type, &event.id, event.pid, event.status);
            if !["start-container", "start-process", "exit"].contains(&&*event.r#type) {
                continue;
            }
            let (before, then) = *first.entry(what).or_insert((*connection, *at));
            let on_its_way = || self.broken[before] - then < Duration::from_secs(1);
            assert!(then == *at || before < *connection && on_its_way(), "told twice: {event:?}");
        }
    }
}

#[test]
fn whatever_is_killed_at_whatever_moment_nothing_is_left_and_nothing_lost() {
    let _alone = alone();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = variable("THECA_LOAD_SEED").unwrap_or(now.as_secs()).max(1);
    println!("THECA_LOAD_SEED={seed}");
    let mut random = Random(seed);
    let theca = Theca::new();
    let disk = disk(&theca);
    let before = Census::take();
    let mut thecad = Thecad::start(&theca);
    let socket = thecad.socket();
    let (over, heard, begun) = (AtomicBool::new(false), AtomicBool::new(false), Instant::now());
    let mut killed = HashMap::from([("thecad", 0), ("containerd-shim-theca-v2", 0), ("theca-vmm", 0)]);
    let (ended, story) = thread::scope(|scope| {
        let work = |number| {
            let mut worker = Worker::new(&socket, &disk, number);
            for cycle in 0.. {
                if over.load(Ordering::SeqCst) {
                    // Nothing is killed any more, so nothing fails any more.
                    worker.open();
                    worker.cycle(cycle).unwrap();
                    break;
                }
                worker.open();
                let _ = worker.cycle(cycle);
            }
            worker.insist("shut down", |this| this.client.shutdown_sandbox(&this.sandbox));
            worker.ended
        };
        let listener = scope.spawn(|| Story::listen(&socket, &heard));
        let all_heard = Over(&heard);
        let sandboxes = scaled(20).max(CLIENTS);
        let workers: Vec<_> = (0..sandboxes).map(|number| scope.spawn(move || work(number))).collect();
        let the_end = Over(&over);
        while killed.values().sum::<usize>() < KILLS {
            assert!(begun.elapsed() < TIME, "only {killed:?} in {TIME:?}");
            thread::sleep(Duration::from_millis(random.below(4000)));
            let victim = ["thecad", "containerd-shim-theca-v2", "theca-vmm"][random.below(3) as usize];
            let running = theca.processes(victim);
            if victim == "thecad" {
                thecad.kill_and_start_again();
            } else if running.is_empty()
                // It may have ended by itself meanwhile.
                || kill(running[random.below(running.len() as u64) as usize], Signal::SIGKILL).is_err()
            {
                continue;
            }
            println!("{:.1?}: killed {victim}", begun.elapsed());
            *killed.get_mut(victim).unwrap() += 1;
        }
        drop(the_end);
        let ended: Vec<String> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        drop(all_heard);
        (ended, listener.join().unwrap())
    });
    let exits = ended.len();
    println!("{killed:?}, {exits} exits, {:.1?}, thecad {} KiB", begun.elapsed(), thecad.kib());
    // Each has its turn: of 50 kills about a third.
    assert!(killed.values().all(|times| *times >= 5), "{killed:?}");
    assert!(exits >= CLIENTS, "{exits} exits");
    story.check(&ended);
    assert_eq!(thecad.client().count().unwrap(), 0);
    eventually("keepers and VMMs to be gone", || {
        theca.processes("theca-vmm").is_empty() && theca.processes("containerd-shim-theca-v2").is_empty()
    });
    thecad.stop();
    before.comes_back();
}
