//! thecad under load: many containers, many processes and events, and processes of Theca's own that are killed meanwhile.
//! Afterwards nothing is left and nothing was lost.
//!
//! All of it takes half an hour in a test host without KVM, so a tenth of the load is what runs unless `THECA_LOAD_PERCENT`
//! says otherwise; the kills are never fewer, nor the sandboxes that they meet than four. `THECA_LOAD_SEED` repeats a run's choices.

mod kills;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use theca_proto::containerd::v1::types::Status as Phase;
use theca_proto::types::Event;
use theca_tests::wait::ask_until;
use theca_tests::{Bundle, Census, Client, IMAGE, Theca, Thecad};
use tonic::{Code, Status};

const MEMORY_MIB: u64 = 64;
/// Clients at a time.
const CLIENTS: usize = 4;
/// What a call that was disturbed may take until it is as it should be.
const RECOVERY: Duration = Duration::from_secs(180);

/// The whole machine is looked at, so these tests take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// So many of what there are `full` of at 100 per cent.
fn scaled(full: usize) -> usize {
    let percent = variable("THECA_LOAD_PERCENT").unwrap_or(10);
    (full * usize::try_from(percent).unwrap()).div_ceil(100)
}

/// The disk of [`IMAGE`].
fn disk(theca: &Theca) -> PathBuf {
    let shown = theca.cli(&["image", "inspect", IMAGE]).json();
    shown[0]["Disk"].as_str().unwrap().into()
}

fn spec() -> Value {
    Bundle::debian(&["sleep", "infinity"]).config
}

fn run(client: &Client, id: &str, sandbox: &str, disk: Option<&Path>) -> Result<(), Status> {
    client.keep(id, sandbox, &spec())?;
    client.create(id, disk)?;
    client.start(id)
}

/// Kills the container and forgets it; its exit status.
fn remove(client: &Client, id: &str) -> Result<u32, Status> {
    client.kill(id)?;
    let stopped = || match client.phase(id) {
        Ok(Phase::Stopped) => Some(Ok(())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    };
    ask_until(RECOVERY, stopped).unwrap_or_else(|| panic!("{id} does not end"))?;
    let status = client.delete(id)?;
    client.forget(id)?;
    Ok(status)
}

/// Runs `work` for every number below `count`, by [`CLIENTS`] clients at a time.
fn by_several(thecad: &Thecad, count: usize, work: impl Fn(&Client, usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let client = thecad.client();
                while let Some(number) = Some(next.fetch_add(1, Ordering::SeqCst)).filter(|n| *n < count) {
                    work(&client, number);
                }
            });
        }
    });
}

/// Reads events on a connection of its own until it is told that all have been caused, and a moment longer.
fn reader(thecad: &Thecad, over: &AtomicBool) -> Vec<Event> {
    let mut events = thecad.client().events().unwrap();
    let mut told = Vec::new();
    loop {
        match events.next(Duration::from_secs(3)).unwrap() {
            Some(event) => told.push(event),
            None if over.load(Ordering::SeqCst) => return told,
            None => {}
        }
    }
}

/// Says that it is over when it is dropped, so that whoever waits for that ends with a test that fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn count(events: &[Event], kind: &str) -> usize {
    events.iter().filter(|event| event.r#type == kind).count()
}

#[test]
fn many_sandboxes_containers_processes_and_events() {
    let _alone = alone();
    let theca = Theca::new();
    let disk = disk(&theca);
    let (sandboxes, execs, cycles, told) = (scaled(20), scaled(500), scaled(300), scaled(10_000));
    let containers = 3 * sandboxes;
    let before = Census::take();
    let thecad = Thecad::start(&theca);
    let (over, begun) = (AtomicBool::new(false), Instant::now());
    let lap = |what: &str| println!("{what}: {:.1?}", begun.elapsed());
    let sandbox = |number: usize| format!("box{}", number % sandboxes);
    let container = |number: usize| format!("c{}", number % containers);
    let events = thread::scope(|scope| {
        let reader = scope.spawn(|| reader(&thecad, &over));
        let the_end = Over(&over);
        by_several(&thecad, sandboxes, |client, number| {
            client.create_sandbox(&sandbox(number), MEMORY_MIB).unwrap();
            client.start_sandbox(&sandbox(number)).unwrap();
        });
        lap("sandboxes run");
        by_several(&thecad, containers, |client, number| {
            run(client, &container(number), &sandbox(number), Some(&disk)).unwrap();
        });
        lap("containers run");
        assert_eq!(thecad.client().count().unwrap(), containers);

        by_several(&thecad, execs, |client, number| {
            let id = container(number);
            let pid = client.exec(&id, &["sh", "-c", &format!("exit {}", number % 100)]).unwrap();
            let ended = || match client.delete_process(&id, pid) {
                Ok(status) => Some(status),
                Err(error) if error.code() == Code::FailedPrecondition => None,
                Err(error) => panic!("{id}: {error}"),
            };
            assert_eq!(ask_until(RECOVERY, ended), Some(u32::try_from(number % 100).unwrap()));
        });
        lap("processes were added");

        let early = thecad.kib();
        by_several(&thecad, cycles, |client, number| {
            let id = format!("cycle{number}");
            // One in thirty has a sandbox of its own, which comes and goes with it.
            let sandbox = if number % 30 == 29 { String::new() } else { sandbox(number) };
            run(client, &id, &sandbox, Some(&disk)).unwrap();
            assert_eq!(remove(client, &id).unwrap(), 137);
        });
        lap("containers came and went");
        // Pauses and resumptions are what else there is to tell.
        let pairs = told.saturating_sub(2 * (containers + execs + cycles)).div_ceil(2);
        by_several(&thecad, CLIENTS, |client, number| {
            for _ in 0..pairs.div_ceil(CLIENTS) {
                client.pause(&container(number)).unwrap();
                client.resume(&container(number)).unwrap();
            }
        });
        lap("events were caused");
        let late = thecad.kib();
        println!("thecad: {early} KiB early, {late} KiB late");
        assert!(late < early + 2048, "thecad has grown from {early} to {late} KiB");

        by_several(&thecad, containers, |client, number| {
            assert_eq!(remove(client, &container(number)).unwrap(), 137);
        });
        by_several(&thecad, sandboxes, |client, number| {
            client.shutdown_sandbox(&sandbox(number)).unwrap();
        });
        lap("all was removed");
        drop(the_end);
        reader.join().unwrap()
    });
    println!("{} events", events.len());
    assert!(events.len() >= told, "{} events", events.len());
    assert_eq!(count(&events, "start-container"), containers + cycles);
    assert_eq!(count(&events, "start-process"), execs);
    assert_eq!(count(&events, "pause"), count(&events, "resume"));
    // Every process that was started ended once.
    let mut exits = HashMap::new();
    for event in events.iter().filter(|event| event.r#type == "exit") {
        *exits.entry((&event.id, event.pid)).or_insert(0) += 1;
    }
    assert_eq!(exits.len(), containers + cycles + execs);
    assert!(exits.values().all(|times| *times == 1), "{exits:?}");
    assert_eq!(thecad.client().count().unwrap(), 0);
    thecad.stop();
    before.comes_back();
}

#[test]
fn a_sandbox_takes_one_container_after_the_other() {
    let _alone = alone();
    let theca = Theca::new();
    let disk = disk(&theca);
    let thecad = Thecad::start(&theca);
    let client = thecad.client();
    client.create_sandbox("pod", MEMORY_MIB * 2).unwrap();
    client.start_sandbox("pod").unwrap();
    // Of each root more than a machine has slots for disks.
    for number in 0..20 {
        let id = format!("folder{number}");
        // A folder is made an image of for each container anew.
        let bundle = Bundle::new(&["sleep", "1000"]);
        client.keep(&id, "pod", &bundle.config).unwrap();
        client.create(&id, None).unwrap();
        client.start(&id).unwrap();
        let pid = client.exec(&id, &["ls", "/bin/busybox"]).unwrap();
        let ended = || client.delete_process(&id, pid).ok();
        assert_eq!(ask_until(RECOVERY, ended), Some(0), "{id}");
        assert_eq!(remove(&client, &id).unwrap(), 137, "{id}");

        let id = format!("image{number}");
        run(&client, &id, "pod", Some(&disk)).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(remove(&client, &id).unwrap(), 137, "{id}");
    }
    client.shutdown_sandbox("pod").unwrap();
    thecad.stop();
}
