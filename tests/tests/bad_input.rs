//! What cannot be done: one sentence that says what and what to do, docker's exit code, and nothing left behind.

use std::path::Path;

use theca_tests::{Bundle, IMAGE, Invocation, Output, Theca, eventually, fixtures};

/// Asserts that `theca ARGS…` ends with this code, says this, and leaves nothing.
#[track_caller]
fn refused(theca: &Theca, args: &[&str], code: i32, says: &str) {
    nothing_left(theca, theca.cli(args).exits(code).says(says));
}

#[track_caller]
fn nothing_left(theca: &Theca, output: &Output) {
    assert!(output.stderr.starts_with("theca: "), "{output}");
    assert!(output.stderr.trim_end().lines().count() <= 2, "more than a sentence\n{output}");
    // An answer comes before the last process is gone; that takes moments.
    eventually("nothing to be left", || theca.leaks().is_empty());
}

#[test]
fn flags_and_names_that_mean_nothing() {
    let theca = Theca::empty();
    for (args, says) in [
        (&["fly"][..], "unrecognized subcommand 'fly'"),
        (&["run", "--bogus", IMAGE], "unexpected argument '--bogus'"),
        (&["run", "--memry", "1g", IMAGE], "--memory"),
        (&["run"], "no image: name one"),
        (&["run", "--pull", "never", "unheard-of"], "no image \"unheard-of\" in the store; `theca image ls`"),
        (&["run", "UPPER CASE"], "UPPER CASE"),
        (&["run", "--name", "a/b", IMAGE], "cannot name a container"),
        (&["run", "--env-file", "/nowhere", IMAGE], "/nowhere"),
        (&["run", "--ulimit", "wings=2", IMAGE], "unknown limit \"wings\""),
        (&["run", "--cap-add", "FLY", IMAGE], "unknown capability \"FLY\""),
        (&["run", "--network", "host", IMAGE], "--network host is not supported yet"),
        (&["run", "-p", "80:80", IMAGE], "--publish 80:80 is not supported yet"),
        (&["run", "-v", "/a:/b", IMAGE], "--volume /a:/b is not supported yet"),
        (&["exec", "nobody", "true"], "no such container: nobody"),
        (&["start", "nobody"], "no such container: nobody"),
        (&["rm", "nobody"], "no such container: nobody"),
        (&["inspect", "nobody"], "no such container: nobody"),
        (&["image", "rm", "nobody"], "no image \"nobody\" in the store"),
        (&["image", "import", "/dev/null"], "/dev/null"),
        (&["image", "import", "/nowhere"], "/nowhere"),
    ] {
        refused(&theca, args, 125, says);
    }
}

#[test]
fn an_image_that_nobody_has() {
    let theca = Theca::empty();
    let output = theca.run(&["127.0.0.1:1/unheard-of"]);
    output.exits(125).says("failed to pull 127.0.0.1:1/unheard-of");
    eventually("nothing to be left", || theca.leaks().is_empty());
}

#[test]
fn more_than_the_machine_has() {
    let theca = Theca::new();
    refused(&theca, &["run", "--memory", "999999g", IMAGE], 125, "ask for less with --memory");
    refused(&theca, &["run", "--memory", "33m", IMAGE], 125, "ask for 48m or more");
    refused(&theca, &["run", "--memory", "much", IMAGE], 125, "much");
    refused(&theca, &["run", "--cpus", "32", IMAGE], 125, "ask for fewer with --cpus");
    refused(&theca, &["run", "--cpus", "0", IMAGE], 125, "no number of processors");
}

#[test]
fn bundles_that_are_none() {
    let theca = Theca::empty();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_string_lossy().into_owned();
    let run = ["run", "--bundle", &path];
    refused(&theca, &run, 125, "it has no config.json; `runc spec`");
    std::fs::write(folder.path().join("config.json"), "{\"root\":").unwrap();
    refused(&theca, &run, 125, "no valid OCI runtime configuration");
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    refused(&theca, &run, 125, "no root");
    refused(&theca, &["run", "--bundle", "/nowhere"], 125, "/nowhere");
    refused(&theca, &["run", "--bundle", &path, "echo"], 125, "no place beside --bundle");

    let mut shared = Bundle::new(&["true"]);
    shared.config["mounts"].as_array_mut().unwrap().push(
        serde_json::json!({ "destination": "/host", "type": "bind", "source": "/etc", "options": ["rbind"] }),
    );
    let output = shared.theca(&theca);
    nothing_left(&theca, output.exits(125).says("binds \"/etc\" at \"/host\""));
}

/// What the bundle asks for and a virtual machine does not have is told, not left out in silence.
#[test]
fn bundles_that_ask_for_what_is_the_host_s() {
    let theca = Theca::empty();
    let refused = |change: &dyn Fn(&mut serde_json::Value), says: &str| {
        let mut bundle = Bundle::new(&["true"]);
        change(&mut bundle.config);
        let output = bundle.theca(&theca);
        nothing_left(&theca, output.exits(125).says(says));
    };
    for kind in ["network", "ipc", "uts"] {
        let join = |config: &mut serde_json::Value| {
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == kind {
                    namespace["path"] = "/var/run/netns/x".into();
                }
            }
        };
        refused(&join, &format!("joins the host's {kind} namespace /var/run/netns/x"));
    }
    for (source, destination) in [("/etc/resolv.conf", "/etc/resolv.conf"), ("/dev/shm", "/dev/shm")] {
        let bind = |config: &mut serde_json::Value| {
            let mount = serde_json::json!({ "destination": destination, "type": "bind", "source": source });
            config["mounts"].as_array_mut().unwrap().push(mount);
        };
        refused(&bind, &format!("binds {source:?} at {destination:?}"));
    }
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let hook = |config: &mut serde_json::Value| {
            config["hooks"] = serde_json::json!({ point: [{ "path": "/usr/libexec/no-such-hook" }] });
        };
        refused(&hook, &format!("hooks.{point} with /usr/libexec/no-such-hook is not supported"));
    }
    let bundle = Bundle::new(&["true"]);
    let path = bundle.path().to_string_lossy().into_owned();
    for flag in ["--shm-size=64m", "--pull=missing", "--cpus=0.5"] {
        self::refused(&theca, &["run", "--bundle", &path, flag], 125, "no place beside --bundle");
    }
}

#[test]
fn commands_that_cannot_be_run() {
    let theca = Theca::new();
    refused(&theca, &["run", IMAGE, "no-such-command"], 127, "no-such-command");
    refused(&theca, &["run", "--rm", IMAGE, "/etc/passwd"], 126, "/etc/passwd");
    refused(&theca, &["run", "--rm", "-u", "nobody-here", IMAGE, "true"], 125, "nobody-here");
}

#[test]
fn a_name_that_is_taken() {
    let theca = Theca::empty();
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let create = ["create", "--name", "web", "--rootfs", &rootfs, "true"];
    let id = theca.cli(&create).success().to_owned();
    theca.cli(&create).exits(125).says("the name \"web\" is taken").says("theca rm web");
    assert_eq!(theca.cli(&["ps", "-a", "-q", "--no-trunc"]).success(), id);
}

#[test]
fn kernels_that_are_none() {
    let theca = Theca::new();
    let run = |kernel: &str, says: &str| {
        refused(&theca, &["run", "--rm", "--kernel", kernel, IMAGE, "true"], 125, says);
    };
    run("/nowhere/vmlinux", "failed to find the guest kernel /nowhere/vmlinux");
    run("/etc/passwd", "/etc/passwd is no guest kernel: expected an uncompressed ELF vmlinux");
    run("/dev/null", "/dev/null is no guest kernel");
}

/// Runs `theca` as a shell script says, in which it is `"$@"`.
fn wrapped(theca: &Theca, script: &str, args: &[&str]) -> Output {
    Invocation::new("sh", &["-c", script, "sh", "theca"])
        .args(args)
        .env("THECA_ROOT", theca.root())
        .env("THECA_STATE", theca.state())
        .run()
}

#[test]
fn a_machine_without_kvm() {
    let theca = Theca::new();
    let without = "exec unshare --mount sh -c 'mount -t tmpfs none /dev && exec \"$@\"' sh \"$@\"";
    let output = wrapped(&theca, without, &["run", "--rm", IMAGE, "true"]);
    nothing_left(&theca, output.exits(125).says("there is no /dev/kvm: load kvm_intel or kvm_amd"));
    let check = wrapped(&theca, without, &["check"]);
    check.exits(1);
    assert!(check.stdout.contains("modprobe kvm_"), "{check}");
}

#[test]
fn a_user_who_may_not_use_kvm() {
    let theca = Theca::empty();
    let script = "exec unshare --mount sh -c 'chmod 600 /dev/kvm; exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"' sh \"$@\"";
    assert!(Path::new("/dev/kvm").exists());
    let output = wrapped(&theca, script, &["run", "--rm", IMAGE, "true"]);
    nothing_left(&theca, output.exits(125).says("no permission to use /dev/kvm: run as root, or"));
}

#[test]
fn a_terminal_where_there_is_none() {
    let theca = Theca::new();
    refused(&theca, &["run", "-it", IMAGE, "sh"], 125, "the input device is not a terminal");
}
