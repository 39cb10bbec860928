//! thecad and `theca sandbox`: one daemon, sandboxes that outlive it, and what is said when something is not as it should be.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use theca_tests::client::Client;
use theca_tests::{Bundle, IMAGE, Invocation, Running, Theca, eventually};

/// A call of `thecad` with the folders of this test.
fn thecad(theca: &Theca, args: &[&str]) -> Invocation {
    Invocation::new("thecad", args).env("THECA_ROOT", theca.root()).env("THECA_STATE", theca.state())
}

/// A thecad that serves.
fn serving(theca: &Theca) -> Running {
    let metrics = format!("unix:{}", theca.state().join("metrics.sock").display());
    let running = thecad(theca, &["--metrics", &metrics]).start();
    eventually("thecad to serve", || theca.cli(&["sandbox", "ps"]).code == 0);
    running
}

/// The only sandbox that there is.
fn only(theca: &Theca) -> Value {
    let mut all = theca.cli(&["sandbox", "ps", "--format", "json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all:#}");
    all[0].take()
}

fn scrape(theca: &Theca) -> String {
    let socket = theca.state().join("metrics.sock");
    let curl = ["-s", "-f", "--unix-socket", &socket.to_string_lossy(), "http://localhost/metrics"];
    Invocation::new("curl", &curl).run().success().to_owned()
}

#[test]
fn a_sandbox_is_made_booted_ended_and_removed() {
    let theca = Theca::empty();
    let daemon = serving(&theca);
    let sandbox = |args: &[&str]| theca.cli(&[&["sandbox"], args].concat());

    let create = ["create", "--memory", "128m", "--label", "team=a", "web"];
    assert_eq!(sandbox(&create).success(), "web\n");
    sandbox(&create).exits(125).says("sandbox web is in the store already");
    assert_eq!(only(&theca)["State"], "created");
    assert_eq!(sandbox(&["start", "web"]).success(), "web\n");
    // Of one that is ready: nothing happens.
    sandbox(&["start", "web"]).success();
    let shown = only(&theca);
    assert_eq!((&shown["State"], &shown["Labels"]["team"]), (&"ready".into(), &"a".into()), "{shown:#}");
    assert_eq!(sandbox(&["ps", "-q", "--filter", "labels.team==a"]).success(), "web\n");
    assert_eq!(sandbox(&["ps", "-q", "--filter", "labels.team==b"]).success(), "");

    let inspected = sandbox(&["inspect", "web"]).json()[0].take();
    let keeper = format!("ttrpc+unix://{}/default/web/keeper.sock", theca.state().display());
    assert_eq!((&inspected["Address"], &inspected["Version"]), (&keeper.into(), &3.into()), "{inspected:#}");
    assert_eq!(inspected["Info"]["memory_mib"], 128, "{inspected:#}");
    let stats = sandbox(&["stats", "--no-stream", "--format", "json"]).json()[0].take();
    assert_eq!(stats["MemLimitBytes"], 128 << 20, "{stats:#}");
    assert!(stats["MemBytes"].as_u64() > Some(1 << 20), "{stats:#}");
    let figures = scrape(&theca);
    assert!(figures.contains(r#"theca_sandbox_state{namespace="default",sandbox="web",state="ready"} 1"#));
    assert!(figures.contains(r#"grpc_method="Start",grpc_code="OK"} 2"#), "{figures}");

    sandbox(&["rm", "web"]).exits(125).says("sandbox web runs; stop it first");
    assert_eq!(sandbox(&["stop", "web"]).success(), "web\n");
    assert_eq!(only(&theca)["State"], "stopped");
    assert!(theca.processes("theca-vmm").is_empty());
    assert_eq!(sandbox(&["rm", "web"]).success(), "web\n");
    assert_eq!(sandbox(&["ps", "-q"]).success(), "");
    sandbox(&["rm", "web"]).exits(125).says("sandbox web does not exist");
    sandbox(&["rm", "-f", "web"]).success();
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
}

#[test]
fn containers_of_images_run_in_a_sandbox_and_go_with_it() {
    let theca = Theca::new();
    let daemon = serving(&theca);
    let sandbox = |args: &[&str]| theca.cli(&[&["sandbox"], args].concat());
    sandbox(&["run", "nobody", IMAGE, "true"]).exits(125).says("nobody");
    // Twice: nothing of the first time is in the way, the refusal's included.
    for _ in 0..2 {
        sandbox(&["create", "--memory", "128m", "pod"]).success();
        sandbox(&["start", "pod"]).success();
        for name in ["web", "db"] {
            assert_eq!(
                sandbox(&["run", "--name", name, "pod", IMAGE, "sleep", "1000"]).success().trim(),
                name
            );
        }
        sandbox(&["run", "--name", "web", "pod", IMAGE, "true"]).exits(125).says("web");
        sandbox(&["run", "--name", "bad", "pod", IMAGE, "/no/such/program"]).exits(125);
        let stats = sandbox(&["stats", "--no-stream", "--format", "json"]).json()[0].take();
        assert_eq!(stats["PIDs"], 2, "{stats:#}");
        sandbox(&["rm", "-f", "pod"]).success();
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
}

#[test]
fn sandboxes_of_other_clients_are_shown_once_a_container_is_in_them() {
    let theca = Theca::empty();
    let daemon = serving(&theca);
    let sandbox = |args: &[&str]| theca.cli(&[&["sandbox"], args].concat());
    let client = Client::connect(&theca.state().join("thecad.sock")).unwrap();
    client.create_sandbox("pod", 128).unwrap();
    client.start_sandbox("pod").unwrap();
    assert_eq!(sandbox(&["ps", "-q"]).success(), "", "nobody tells of it");
    let spec = Bundle::new(&["sleep", "1000"]).config;
    client.keep("web", "pod", &spec).unwrap();
    assert_eq!(only(&theca)["State"], "ready");
    // One without a sandbox has its own.
    let mut small = spec.clone();
    small["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20 });
    client.keep("own", "", &small).unwrap();
    client.create("own", None).unwrap();
    client.start("own").unwrap();
    assert_eq!(sandbox(&["ps", "-q"]).success(), "own\npod\n");
    assert_eq!(sandbox(&["ps", "-q", "--filter", "id==pod"]).success(), "", "a filter is for records");
    let stats = sandbox(&["stats", "--no-stream", "--format", "{{.ID}} {{.PIDs}}"]);
    assert_eq!(stats.success(), "own 1\npod 0\n");
    // What its container may use, and 128 MiB for the guest.
    assert_eq!(sandbox(&["inspect", "own"]).json()[0]["Info"]["memory_mib"], 16 + 128);

    client.kill("own").unwrap();
    eventually("it has ended", || client.delete("own").is_ok());
    client.forget("own").unwrap();
    client.forget("web").unwrap();
    client.shutdown_sandbox("pod").unwrap();
    assert_eq!(sandbox(&["ps", "-q"]).success(), "");
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
}

#[test]
fn what_happens_in_sandboxes_is_told_while_it_happens() {
    let theca = Theca::new();
    let daemon = serving(&theca);
    let sandbox = |args: &[&str]| theca.cli(&[&["sandbox"], args].concat());
    let events = theca.start(&["sandbox", "events", "--format", "{{.Type}} {{.ID}} {{.Status}}"]);
    let lines = theca.start(&["sandbox", "events"]);
    let subscribed = r#"grpc_method="Events"} 2"#;
    eventually("both to listen", || {
        scrape(&theca).lines().any(|line| line.contains("started") && line.contains(subscribed))
    });

    sandbox(&["create", "--cpus", "99", "huge"]).exits(125).says("99 is not in 1..=32");
    let created = sandbox(&["create", "--cpus", "1", "--memory", "128m", "--kernel-cmdline", "tests.word=1"]);
    let id = created.success().trim().to_owned();
    assert_eq!(id.len(), 12, "{id}");
    sandbox(&["start", &id]).success();
    let grep = ["grep", "-q", "tests.word=1", "/proc/cmdline"];
    sandbox(&[&["run", "--name", "words", &id, IMAGE], &grep[..]].concat()).success();
    events.expect("start-container words");
    events.expect("exit words 0");
    lines.expect("words");

    let stubborn =
        ["run", "--name", "stubborn", &id, IMAGE, "sh", "-c", "trap '' TERM; while :; do sleep 1; done"];
    sandbox(&stubborn).success();
    let figures = theca.start(&["sandbox", "stats", "--format", "{{.ID}} {{.PIDs}}"]);
    figures.expect(&format!("{id} 2\n"));
    figures.expect(&format!("{id} 2\n{id} 2\n"));
    figures.signal(Signal::SIGINT);
    figures.wait().exits(130);
    sandbox(&["stop", "--timeout", "1", &id]).success();
    events.expect("exit stubborn 137");
    // Anyone finds thecad who is told its socket.
    let socket = theca.state().join("thecad.sock");
    let elsewhere =
        ["sandbox", "--address", &socket.to_string_lossy(), "ps", "--format", "{{.ID}} {{.State}}"];
    assert_eq!(Invocation::new("theca", &elsewhere).run().success(), format!("{id} stopped\n"));
    sandbox(&["rm", &id]).success();
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
    for listener in [events, lines] {
        listener.wait().exits(125).says("thecad");
    }
}

#[test]
fn sandboxes_outlive_thecad_however_it_ends() {
    let theca = Theca::empty();
    let mut daemon = serving(&theca);
    theca.cli(&["sandbox", "create", "--memory", "128m", "web"]).success();
    theca.cli(&["sandbox", "start", "web"]).success();
    let before = only(&theca)["Pid"].take();
    for (signal, code) in [(Signal::SIGINT, 0), (Signal::SIGTERM, 0), (Signal::SIGKILL, 137)] {
        daemon.signal(signal);
        daemon.wait().exits(code);
        assert_eq!(theca.processes("theca-vmm").len(), 1, "after {signal}");
        daemon = serving(&theca);
        let after = only(&theca);
        assert_eq!((&after["State"], &after["Pid"]), (&"ready".into(), &before), "after {signal}");
    }
    theca.cli(&["sandbox", "rm", "-f", "web"]).success();
    assert!(theca.processes("theca-vmm").is_empty());
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
}

#[test]
fn there_is_one_thecad_at_a_time_and_a_client_is_told_when_there_is_none() {
    let theca = Theca::empty();
    let socket = theca.state().join("thecad.sock");
    let nobody = format!("thecad does not run: nobody answers at {}; start it", socket.display());
    theca.cli(&["sandbox", "ps"]).exits(125).says(&nobody);

    let daemon = serving(&theca);
    let first = format!("another thecad (pid {}) serves {}", daemon.pid(), theca.state().display());
    thecad(&theca, &[]).run().exits(1).says(&first);
    // The second one has taken nothing of the first's.
    theca.cli(&["sandbox", "ps"]).success();
    theca.cli(&["sandbox", "--namespace", "a/b", "ps"]).exits(125).says("namespace \"a/b\" is not valid");

    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    theca.cli(&["sandbox", "ps"]).exits(125).says(&nobody);
    let daemon = serving(&theca);
    daemon.signal(Signal::SIGTERM);
    daemon.wait().exits(0);
}
