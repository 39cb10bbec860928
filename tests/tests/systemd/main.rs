//! thecad as the README installs it: systemd runs it by `deploy/thecad.service`, and stops, restarts and kills it while a
//! sandbox runs. The machine's end is another matter.

mod machine;

use std::time::{Duration, Instant};

use machine::{Booted, Machine};
use serde_json::Value;
use theca_tests::eventually;

/// What `TimeoutStopSec` of the unit allows.
const TIME_TO_STOP: Duration = Duration::from_secs(15);

/// The only sandbox: what is said of it now and still holds when it is older.
fn only(machine: &Booted<'_>) -> Value {
    let mut all = machine.sandbox(&["ps", "--format", "json"]).json();
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all:#}");
    let mut sandbox = all[0].take();
    sandbox.as_object_mut().unwrap().remove("RunningFor");
    sandbox
}

#[test]
fn sandboxes_outlive_whatever_systemd_does_with_thecad_but_not_the_machine() {
    let machine = Machine::new();
    let booted = machine.boot();
    // The README's commands. thecad serves when systemd says that it has started.
    booted.systemctl(&["daemon-reload"]).success();
    booted.systemctl(&["enable", "--now", "thecad"]).success();
    booted.sandbox(&["create", "--memory", "128m", "web"]).success();
    booted.sandbox(&["start", "web"]).success();
    let web = only(&booted);
    assert_eq!(web["State"], "ready", "{web:#}");
    let sockets =
        booted.run(&["stat", "-c", "%a %U", "/run/theca/thecad.sock", "/run/theca/thecad-2022.sock"]);
    assert_eq!(sockets.success(), "600 root\n600 root\n");

    booted.systemctl(&["restart", "thecad"]).success();
    assert_eq!(only(&booted), web, "after a restart");
    booted.systemctl(&["kill", "--signal", "KILL", "--kill-whom", "main", "thecad"]).success();
    eventually("systemd to start it again", || {
        booted.unit("NRestarts") == "1" && booted.unit("SubState") == "running"
    });
    assert_eq!(only(&booted), web, "after a crash");
    let begun = Instant::now();
    booted.systemctl(&["stop", "thecad"]).success();
    assert!(begun.elapsed() < TIME_TO_STOP, "it stopped in {:?}", begun.elapsed());
    assert_eq!((booted.unit("Result"), booted.unit("SubState")), ("success".into(), "dead".into()));
    booted.sandbox(&["ps"]).exits(125).says("thecad does not run");
    assert_eq!(booted.processes(), ["containerd-shim", "theca-vmm"], "keeper and VMM of the sandbox run on");
    booted.systemctl(&["start", "thecad"]).success();
    assert_eq!(only(&booted), web, "after a stop");

    // With the whole machine they end, and nothing is believed that is not there.
    booted.power_off();
    let booted = machine.boot();
    booted.systemctl(&["daemon-reload"]).success();
    booted.systemctl(&["enable", "--now", "thecad"]).success();
    let gone = only(&booted);
    assert_eq!((&gone["State"], &gone["Pid"]), (&"gone".into(), &0.into()), "{gone:#}");
    let inspected = booted.sandbox(&["inspect", "--format", "{{.Id}} {{.State}}", "web"]);
    assert_eq!(inspected.success(), "web gone\n");
    // What it is made of is known.
    booted.sandbox(&["start", "web"]).success();
    let anew = only(&booted);
    assert_eq!((&anew["State"], &anew["MemoryBytes"]), (&"ready".into(), &(128 << 20).into()), "{anew:#}");
    booted.sandbox(&["start", "nobody"]).exits(125).says("nobody does not exist");
    assert_eq!(booted.processes(), ["containerd-shim", "theca-vmm", "thecad"]);
    booted.sandbox(&["stop", "web"]).success();
    booted.sandbox(&["rm", "web"]).success();
    assert_eq!(booted.sandbox(&["ps", "-q"]).success(), "");
    assert_eq!(booted.processes(), ["thecad"]);
    assert!(booted.journal().contains("serving"), "{}", booted.journal());
    booted.power_off();
}
