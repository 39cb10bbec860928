//! thecad's sandboxes when a process of theirs dies or hangs, when thecad does, and when the machine starts again: who is told
//! what, once, and what is left. What `theca run` says of the same is in `deaths.rs` and `faults.rs`.

use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::containerd::task::v3::{KillRequest, WaitRequest};
use theca_proto::ttrpc_glue::Caller;
use theca_proto::types::Event;
use theca_tests::bundle::DESTROY_THE_AGENT;
use theca_tests::client::Events;
use theca_tests::{Bundle, Client, Theca, Thecad, eventually};
use tonic::{Code, Status};

/// What is told of what died without a word of its own.
const FAILED: u32 = 255;
const KILLED: u32 = 137;
/// Nothing more is told after so long a silence.
const SILENCE: Duration = Duration::from_secs(2);

type Waiter = JoinHandle<Result<u32, Status>>;

/// thecad with the sandbox `pod` and the container `web` in it.
struct Pod {
    client: Client,
    thecad: Thecad,
    /// The pid of `web`'s init, in the guest.
    init: u32,
    // Last: it asserts that nothing is left.
    theca: Theca,
}

impl Pod {
    /// `web` is made of this bundle and waits for its start.
    fn created(settings: &[&str], bundle: &Bundle) -> Self {
        let theca = Theca::empty();
        let thecad = Thecad::start_with(&theca, settings);
        let client = thecad.client();
        client.create_sandbox("pod", 64).unwrap();
        client.start_sandbox("pod").unwrap();
        client.keep("web", "pod", &bundle.config).unwrap();
        let init = client.create("web", None).unwrap();
        Self { client, thecad, init, theca }
    }

    /// `web` runs, and does not care for SIGTERM.
    fn running(settings: &[&str]) -> Self {
        let stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"];
        let pod = Self::created(settings, &Bundle::new(&stubborn));
        pod.client.start("web").unwrap();
        pod
    }

    fn events(&self) -> Events {
        self.thecad.client().events().unwrap()
    }

    /// So many who wait for the sandbox's end.
    fn waiters(&self, count: usize) -> Vec<Waiter> {
        let wait = |client: Client| thread::spawn(move || client.wait_sandbox("pod"));
        (0..count).map(|_| wait(self.thecad.client())).collect()
    }

    /// Sends a signal to its `keeper_pid` or `vmm_pid`.
    fn signal(&self, whom: &str, signal: Signal) {
        let info = self.client.sandbox_info("pod").unwrap();
        let pid = info.get(whom).unwrap_or_else(|| panic!("no {whom}: {info:?}"));
        kill(Pid::from_raw(pid.parse().unwrap()), signal).unwrap();
    }

    /// Asserts that the sandbox has failed, for a reason that says this, and that all who waited were told, as is who asks now.
    #[track_caller]
    fn has_failed(&self, waiters: Vec<Waiter>, says: &[&str]) {
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap(), FAILED);
        }
        assert_eq!(self.client.wait_sandbox("pod").unwrap(), FAILED, "after the end");
        let reason = self.client.sandbox_info("pod").unwrap().remove("reason").unwrap_or_default();
        for text in says {
            assert!(reason.contains(text), "{reason:?} does not say {text:?}");
        }
    }

    /// Asserts that the sandbox goes and leaves nothing.
    fn end(self) {
        self.client.shutdown_sandbox("pod").unwrap();
        assert_eq!(self.client.count().unwrap(), 0);
        self.client.forget("web").unwrap();
        self.thecad.stop();
        eventually("all to be gone", || self.theca.leaks().is_empty());
    }
}

/// Everything that is told until there is silence or the stream breaks.
fn rest(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| events.next(SILENCE).ok().flatten()).collect()
}

/// Statuses of the exits that were told, by pid.
fn exits(told: &[Event]) -> BTreeMap<u32, Vec<u32>> {
    let mut exits = BTreeMap::<u32, Vec<u32>>::new();
    for event in told.iter().filter(|event| event.r#type == "exit") {
        assert_eq!(event.id, "web");
        exits.entry(event.pid).or_default().push(event.status);
    }
    exits
}

/// What dies takes the sandbox with it, and everybody hears of that once.
fn dies(whom: &str, reason: &str) {
    let pod = Pod::running(&[]);
    let mut events = pod.events();
    let shell = pod.client.exec("web", &["sleep", "1000"]).unwrap();
    let waiters = pod.waiters(5);
    pod.signal(whom, Signal::SIGKILL);
    pod.has_failed(waiters, &[reason]);
    assert_eq!(pod.client.delete_process("web", shell).unwrap(), KILLED);
    assert_eq!(pod.client.delete("web").unwrap(), KILLED);
    let told = rest(&mut events);
    assert_eq!(exits(&told), [(pod.init, vec![KILLED]), (shell, vec![KILLED])].into());
    let order: Vec<_> = told.iter().filter(|event| event.r#type == "exit").map(|event| event.pid).collect();
    assert_eq!(order, [shell, pod.init], "init's comes last");
    pod.end();
}

#[test]
fn a_keeper_that_is_killed_is_told_to_all_once() {
    dies("keeper_pid", "its keeper has ended");
}

#[test]
fn a_vmm_that_is_killed_is_told_to_all_once() {
    dies("vmm_pid", "the VMM was killed by signal 9");
}

#[test]
fn a_guest_that_panics_is_told_with_its_last_words() {
    let pod = Pod::created(&[], &Bundle::trusted(&["sh", "-c", DESTROY_THE_AGENT]));
    let waiters = pod.waiters(2);
    // Its answer may go with the agent.
    let _ = pod.client.start("web");
    pod.has_failed(
        waiters,
        &["the guest's kernel panicked; the guest's last words:\n", "Attempted to kill init"],
    );
    assert_eq!(pod.client.delete("web").unwrap(), KILLED);
    pod.end();
}

#[test]
fn a_guest_that_hangs_is_ended_within_its_bound() {
    let pod = Pod::running(&["--heartbeat", "2", "--hung-after", "8"]);
    let waiters = pod.waiters(2);
    pod.signal("vmm_pid", Signal::SIGSTOP);
    let begun = Instant::now();
    pod.has_failed(waiters, &["the guest has not answered for"]);
    // The bound, a heartbeat, what one waits for an answer (5 s), and as long again for a slow machine.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    eventually("keeper and VMM to be gone", || {
        ["containerd-shim-theca-v2", "theca-vmm"].iter().all(|name| pod.theca.processes(name).is_empty())
    });
    assert_eq!(pod.client.delete("web").unwrap(), KILLED);
    pod.end();
}

/// Kills `web` behind thecad's back; answers when its end is known to the keeper.
fn kill_at_the_keeper(theca: &Theca) {
    let address = format!("unix://{}/default/pod/keeper.sock", theca.state().display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let task = TaskClient::new(Caller::new(ttrpc::r#async::Client::connect(&address).await.unwrap()));
        let kill = KillRequest { id: "web".into(), signal: 9, all: true, ..Default::default() };
        task.kill(kill).await.unwrap();
        task.wait(WaitRequest { id: "web".into(), ..Default::default() }).await.unwrap();
    });
}

#[test]
fn a_new_thecad_adopts_what_runs_and_tells_what_the_old_one_missed_once() {
    let mut pod = Pod::running(&[]);
    let mut events = pod.events();
    let early = pod.client.exec("web", &["true"]).unwrap();
    let late = pod.client.exec("web", &["sleep", "1000"]).unwrap();
    let mut told = Vec::new();
    while !exits(&told).contains_key(&early) {
        told.push(events.find(|_| true).unwrap());
    }
    // What was told is written down a moment later: not at the very moment of the kill, but before this is answered.
    pod.client.delete_process("web", early).unwrap();
    let waiters = pod.waiters(1);
    pod.thecad.kill();
    for waiter in waiters {
        waiter.join().unwrap().expect_err("nobody is there to answer");
    }
    told.extend(rest(&mut events));
    kill_at_the_keeper(&pod.theca);

    pod.thecad.start_again();
    pod.client = pod.thecad.client();
    told.extend(rest(&mut pod.events()));
    assert_eq!(exits(&told), [(early, vec![0]), (late, vec![KILLED]), (pod.init, vec![KILLED])].into());
    let started = told.iter().filter(|event| event.r#type == "start-process").count();
    assert_eq!(started, 2, "{told:?}");
    assert_eq!(pod.client.delete("web").unwrap(), KILLED);
    let waiters = pod.waiters(2);
    pod.signal("vmm_pid", Signal::SIGKILL);
    pod.has_failed(waiters, &["the VMM was killed by signal 9"]);
    pod.end();
}

#[test]
fn after_the_machines_next_start_nothing_is_believed_but_the_store() {
    let mut pod = Pod::running(&[]);
    pod.thecad.kill();
    for process in pod.theca.processes("") {
        // A VMM ends with its keeper.
        let _ = kill(process, Signal::SIGKILL);
    }
    eventually("all processes to be gone", || pod.theca.processes("").is_empty());
    for entry in std::fs::read_dir(pod.theca.state()).unwrap() {
        let path = entry.unwrap().path();
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    pod.thecad.start_again();
    pod.client = pod.thecad.client();
    assert_eq!(pod.client.sandbox_info("pod").unwrap_err().code(), Code::NotFound);
    assert_eq!(pod.client.wait_sandbox("pod").unwrap_err().code(), Code::NotFound);
    assert_eq!(pod.client.delete("web").unwrap_err().code(), Code::NotFound);
    assert!(rest(&mut pod.events()).is_empty());
    let kept = pod.client.keep("web", "pod", &Bundle::new(&["true"]).config);
    assert_eq!(kept.unwrap_err().code(), Code::AlreadyExists, "the record is there");
    pod.end();
}

#[test]
fn what_has_ended_can_be_ended_and_deleted_again() {
    let pod = Pod::running(&[]);
    for _ in 0..2 {
        pod.client.stop_sandbox("pod", 1).unwrap();
        assert_eq!(pod.client.wait_sandbox("pod").unwrap(), 0);
    }
    assert_eq!(pod.client.kill("web").unwrap_err().code(), Code::NotFound);
    assert_eq!(pod.client.delete("web").unwrap(), KILLED);
    assert_eq!(pod.client.delete("web").unwrap_err().code(), Code::NotFound);
    for sandbox in ["pod", "pod", "nobody"] {
        pod.client.shutdown_sandbox(sandbox).unwrap();
    }
    assert_eq!(pod.client.stop_sandbox("pod", 1).unwrap_err().code(), Code::NotFound);
    pod.end();
}

#[test]
fn a_guest_that_does_nothing_any_more_does_not_keep_its_sandbox_from_going() {
    let pod = Pod::running(&[]);
    pod.signal("vmm_pid", Signal::SIGSTOP);
    let begun = Instant::now();
    pod.client.shutdown_sandbox("pod").unwrap();
    // The default grace of 10 s, 15 s beyond, and 20 s for what is left.
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    assert_eq!(pod.client.delete("web").unwrap_err().code(), Code::NotFound);
    pod.end();
}
