//! Containers of one sandbox: what they share as those of a pod do, what each has of its own, and what is counted of it.

use std::path::PathBuf;

use serde_json::{Value, json};
use theca_proto::containerd::v1::types::Status as Phase;
use theca_proto::types::NetworkStats;
use theca_tests::{Bundle, Client, IMAGE, Theca, Thecad, eventually, wait_for};
use tonic::Code;

const KINDS: [&str; 5] = ["net", "ipc", "uts", "pid", "mnt"];
/// Prints one line for each of [`KINDS`].
const TELL: &str = "for kind in net ipc uts pid mnt; do readlink /proc/self/ns/$kind; done";

/// A sandbox `pod` that runs, and who knows it.
struct Pod {
    client: Client,
    thecad: Thecad,
    output: tempfile::TempDir,
    theca: Theca,
}

impl Pod {
    fn start(theca: Theca) -> Self {
        let thecad = Thecad::start(&theca);
        let client = thecad.client();
        theca.cli(&["sandbox", "create", "--memory", "128m", "pod"]).success();
        theca.cli(&["sandbox", "start", "pod"]).success();
        let output = tempfile::tempdir_in("/var/tmp").unwrap();
        Self { client, thecad, output, theca }
    }

    /// A namespace of the pod, as its engine names it in a specification.
    fn namespace(&self, kind: &str) -> Value {
        let file = if kind == "network" { "net" } else { kind };
        let shown = self.theca.cli(&["sandbox", "ps", "--format", "json"]).json();
        assert!(shown[0]["Pid"].is_u64(), "{shown:#}");
        json!({ "type": kind, "path": format!("/proc/{}/ns/{file}", shown[0]["Pid"]) })
    }

    /// Runs a line of shell in a container with these namespaces, and with the shared memory that a pod's engine binds.
    fn run(&self, id: &str, namespaces: &[Value], line: &str) {
        let mut config = Bundle::new(&["sh", "-c", line]).config;
        config["linux"]["namespaces"] = json!(namespaces);
        if !namespaces.contains(&json!({ "type": "uts" })) {
            config.as_object_mut().unwrap().remove("hostname");
        }
        let mounts = config["mounts"].as_array_mut().unwrap();
        let shm = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/shm").unwrap();
        *shm = json!({
            "destination": "/dev/shm", "type": "bind", "source": "/run/engine/pod/shm",
            "options": ["rbind", "rprivate", "rw"],
        });
        self.client.keep(id, "pod", &config).unwrap();
        self.client.create_to(id, None, &self.file(id)).unwrap();
        self.client.start(id).unwrap();
    }

    fn file(&self, id: &str) -> PathBuf {
        self.output.path().join(id)
    }

    /// What a container has printed, once that is `lines` lines.
    fn printed(&self, id: &str, lines: usize) -> Vec<String> {
        wait_for(&format!("{lines} lines of {id}"), || {
            let text = std::fs::read_to_string(self.file(id)).unwrap_or_default();
            (text.lines().count() >= lines).then(|| text.lines().map(str::to_owned).collect())
        })
    }

    /// How a line of shell ends in a container that runs.
    fn exec(&self, id: &str, line: &str) -> u32 {
        let pid = self.client.exec(id, &["sh", "-c", line]).unwrap();
        wait_for(&format!("the end of {line}"), || match self.client.delete_process(id, pid) {
            Err(error) if error.code() == Code::FailedPrecondition => None,
            status => Some(status.unwrap()),
        })
    }

    fn ended(&self, id: &str) {
        eventually(&format!("the end of {id}"), || self.client.phase(id).unwrap() == Phase::Stopped);
    }

    fn remove(self) {
        self.theca.cli(&["sandbox", "rm", "-f", "pod"]).success();
        drop(self.client);
        self.thecad.stop();
    }
}

/// Namespaces of a container's own.
fn own<const N: usize>(kinds: [&str; N]) -> Vec<Value> {
    kinds.map(|kind| json!({ "type": kind })).to_vec()
}

/// Which of [`KINDS`] are the same.
fn shared(one: &[String], other: &[String]) -> Vec<&'static str> {
    assert!(one[..KINDS.len()].iter().all(|link| link.contains(":[")), "{one:?}");
    (0..KINDS.len()).filter(|kind| one[*kind] == other[*kind]).map(|kind| KINDS[kind]).collect()
}

fn loopback(pod: &Pod, id: &str) -> NetworkStats {
    let interfaces = pod.client.stats(id).unwrap().network_stats;
    interfaces.into_iter().find(|interface| interface.name == "lo").expect("no loopback is counted")
}

#[test]
fn containers_of_a_pod_share_its_network_and_ipc_and_where_asked_its_processes() {
    let pod = Pod::start(Theca::new());
    let of_pod = ["network", "ipc", "uts"].map(|kind| pod.namespace(kind));
    let member = [&of_pod[..], &own(["pid", "mount"])].concat();
    let watcher = [&of_pod[..], &[pod.namespace("pid")], &own(["mount"])].concat();

    pod.run("db", &member, &format!("{TELL}; echo from db | nc -l -p 7000; sleep 1000"));
    pod.run(
        "web",
        &member,
        &format!("{TELL}; until nc 127.0.0.1 7000 < /dev/null; do sleep 0.1; done; sleep 1000"),
    );
    pod.run("watcher", &watcher, &format!("{TELL}; exec sleep 1000"));
    pod.run("watcher2", &watcher, &format!("{TELL}; exec sleep 1000"));
    pod.run("alone", &own(["network", "ipc", "uts", "pid", "mount"]), &format!("{TELL}; sleep 1000"));
    let db = pod.printed("db", 5);
    let web = pod.printed("web", 6);
    assert_eq!(shared(&db, &web), ["net", "ipc", "uts"], "{db:?} {web:?}");
    assert_eq!(web[5], "from db");
    let watcher = pod.printed("watcher", 5);
    assert_eq!(shared(&web, &watcher), ["net", "ipc", "uts"], "{web:?} {watcher:?}");
    assert_eq!(shared(&watcher, &pod.printed("watcher2", 5)), ["net", "ipc", "uts", "pid"]);
    assert_eq!(shared(&web, &pod.printed("alone", 5)), [""; 0]);
    assert_ne!(
        pod.exec("alone", "nc 127.0.0.1 7000 < /dev/null"),
        0,
        "nobody listens on a loopback of one's own"
    );

    // What `theca sandbox run` makes is a member too, with a host name of its own.
    let run = |args: &[&str]| pod.theca.cli(&[&["sandbox", "run"], args].concat());
    run(&["--name", "cli", "pod", IMAGE, "sleep", "1000"]).success();
    assert_eq!(pod.exec("web", "echo shared > /dev/shm/word"), 0);
    assert_eq!(pod.exec("cli", "[ $(cat /dev/shm/word) = shared ]"), 0);
    run(&["--name", "shares", "--share-pid", "pod", IMAGE, "sleep", "1000"]).success();
    let is = |kind: usize, link: &str| format!("[ $(readlink /proc/self/ns/{}) = {link} ]", KINDS[kind]);
    let (net, ipc, uts, pid) = (is(0, &web[0]), is(1, &web[1]), is(2, &web[2]), is(3, &watcher[3]));
    assert_eq!(pod.exec("cli", &format!("{net} && {ipc} && ! {uts} && ! {pid} && [ $(uname -n) = cli ]")), 0);
    assert_eq!(pod.exec("shares", &format!("{net} && {ipc} && ! {uts} && {pid}")), 0);

    // What went over the loopback that they share is the sandbox's.
    let stats = pod.theca.cli(&["sandbox", "stats", "--no-stream", "--format", "json"]).json();
    assert!(stats[0]["NetReceivedBytes"].as_u64() > Some(8), "{stats:#}");
    assert!(loopback(&pod, "web").rx_bytes > 8);
    pod.remove();
}

#[test]
fn traffic_of_a_container_is_counted_until_it_is_deleted() {
    let pod = Pod::start(Theca::empty());
    let line = "cd /dev/shm; head -c 100000 /dev/zero > file; httpd -p 127.0.0.1:7000 -h .
        wget -q -O /dev/null http://127.0.0.1:7000/file && echo sent";
    pod.run("c", &own(["network", "ipc", "uts", "pid", "mount"]), line);
    pod.run("quiet", &own(["network", "ipc", "uts", "pid", "mount"]), "sleep 1000");
    pod.ended("c");
    assert_eq!(pod.printed("c", 1), ["sent"]);
    let counted = loopback(&pod, "c");
    assert!((100_000..200_000).contains(&counted.rx_bytes), "{counted:?}");
    assert_eq!((counted.tx_bytes, counted.rx_errors), (counted.rx_bytes, 0), "{counted:?}");
    assert_eq!(loopback(&pod, "quiet").rx_bytes, 0);
    pod.client.delete("c").unwrap();
    assert_eq!(pod.client.stats("c").unwrap_err().code(), Code::NotFound);
    pod.remove();
}

#[test]
fn a_pod_that_is_being_stopped_answers_and_its_containers_can_be_killed() {
    let pod = Pod::start(Theca::new());
    let line = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done";
    pod.run("deaf", &own(["network", "ipc", "uts", "pid", "mount"]), line);
    pod.printed("deaf", 1);
    let patient = pod.thecad.client();
    // No test takes that long.
    let stopping = std::thread::spawn(move || patient.stop_sandbox("pod", 3600));
    assert_eq!(pod.printed("deaf", 2)[1], "asked");
    assert_eq!(pod.client.phase("deaf").unwrap(), Phase::Running);
    pod.client.stats("deaf").unwrap();
    let late = pod.client.exec("deaf", &["true"]).unwrap_err();
    assert!(late.message().contains("shutting down"), "{late}");
    assert!(!stopping.is_finished());
    pod.client.kill("deaf").unwrap();
    stopping.join().unwrap().unwrap();
    assert_eq!(pod.client.wait_sandbox("pod").unwrap(), 0);
    pod.remove();
}

#[test]
fn containers_that_share_ipc_in_the_guest_share_memory() {
    let pod = Pod::start(Theca::empty());
    let member = [&[pod.namespace("ipc")][..], &own(["network", "pid", "mount"])].concat();
    let wait = "until [ -s /dev/shm/word ]; do sleep 0.1; done; cat /dev/shm/word; sleep 1000";
    pod.run("reader", &member, wait);
    pod.run("alone", &own(["network", "ipc", "uts", "pid", "mount"]), wait);
    pod.run("writer", &member, "echo shared > /dev/shm/word; sleep 1000");
    assert_eq!(pod.printed("reader", 1), ["shared"]);
    assert_ne!(pod.exec("alone", "[ -e /dev/shm/word ]"), 0, "it has a memory of its own");
    assert_ne!(
        pod.exec("reader", "cp /bin/busybox /dev/shm/x && /dev/shm/x true"),
        0,
        "nothing is run from it"
    );
    pod.remove();
}
