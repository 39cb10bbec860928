//! Further processes in a running container.

use theca_tests::{IMAGE, Theca, eventually};

/// A context with the container `box` in it, which runs until it is killed.
fn with_box(flags: &[&str]) -> Theca {
    let theca = Theca::new();
    let command = ["-e", "INIT=1", IMAGE, "sleep", "infinity"];
    theca.run(&[&["-d", "--name", "box"], flags, &command].concat()).success();
    theca
}

#[test]
fn it_joins_the_container() {
    let theca = with_box(&["--hostname", "inside", "--cap-drop", "all"]);
    let script = "tr '\\0' ' ' < /proc/1/cmdline; echo; uname -n; echo $INIT $OWN; pwd; id -u
        grep CapEff /proc/self/status | tr -d '\\t'; cat /proc/self/cgroup";
    let output = theca.exec(&["-e", "OWN=2", "-w", "/usr", "box", "sh", "-c", script]);
    let expected = "sleep infinity \ninside\n1 2\n/usr\n0\nCapEff:0000000000000000\n0::/\n";
    assert_eq!(output.success(), expected);
    let daemon = theca.exec(&["--user", "daemon", "box", "sh", "-c", "id -u; id -g; touch /etc/x"]);
    assert_eq!(daemon.exits(1).stdout, "1\n1\n");
}

#[test]
fn input_goes_in_and_exit_codes_come_back() {
    let theca = with_box(&[]);
    let sorted = theca.command(&["exec", "-i", "box", "sh", "-c", "sort; echo done >&2; exit 200"]);
    let sorted = sorted.input("b\na\n").run();
    assert_eq!((&*sorted.exits(200).stdout, &*sorted.stderr), ("a\nb\n", "done\n"));
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        theca.exec(&["box", "sh", "-c", &format!("kill -{signal} $$")]).exits(code);
    }
    theca.exec(&["box", "no-such-command"]).exits(127).says("no-such-command");
    theca.exec(&["box", "/etc/passwd"]).exits(126).says("/etc/passwd");
    theca.exec(&["--workdir", "relative", "box", "true"]).exits(125).says("not absolute");
    theca.exec(&["--user", "nobody-here", "box", "true"]).exits(125).says("nobody-here");
}

#[test]
fn many_run_side_by_side_and_end_with_the_container() {
    let theca = with_box(&[]);
    theca.exec(&["-d", "box", "sh", "-c", "sleep 1000; touch /never"]).success();
    let running: Vec<_> = (0..8)
        .map(|number| theca.start(&["exec", "box", "sh", "-c", &format!("echo {number}; exit {number}")]))
        .collect();
    for (number, running) in (0..).zip(running) {
        assert_eq!(running.wait().exits(number).stdout, format!("{number}\n"));
    }
    let sleeping = theca.start(&["exec", "box", "sleep", "1000"]);
    eventually("the process to run", || {
        theca.exec(&["box", "sh", "-c", "grep -l 1000 /proc/[0-9]*/cmdline"]).stdout.lines().count() > 2
    });
    theca.cli(&["kill", "box"]).success();
    sleeping.wait().exits(137);
    theca.exec(&["box", "true"]).exits(125).says("not running");
}
