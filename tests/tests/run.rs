//! `theca run` and its flags, as the container sees them.

use nix::sys::signal::Signal;
use theca_tests::{IMAGE, Invocation, Theca, fixtures};

#[test]
fn a_megabyte_goes_in_and_comes_out_on_both_streams() {
    let theca = Theca::new();
    let input = "0123456789abcdef".repeat(1 << 16);
    let run = ["run", "--rm", "-i", IMAGE, "sh", "-c", "tee /dev/stderr | wc -c"];
    let output = theca.command(&run).input(&*input).run();
    assert_eq!(output.success(), "1048576\n");
    assert!(output.stderr == input, "stderr has {} bytes, or others", output.stderr.len());
}

#[test]
fn without_interactive_stdin_is_empty() {
    let theca = Theca::new();
    let output = theca.command(&["run", "--rm", IMAGE, "sh", "-c", "cat; exit 42"]).input("unread").run();
    assert_eq!(output.exits(42).stdout, "");
}

#[test]
fn flags_describe_the_process() {
    let theca = Theca::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    std::fs::write(&file, "# a comment\nA=file\nB=of two words\n").unwrap();
    let script = "echo $A, $B, $C; pwd; id -u; id -g; uname -n; echo $0";
    let output = theca
        .command(&["run", "--rm", "--env-file", &file.to_string_lossy(), "--env", "A=flag", "-e", "C"])
        .args(&["--workdir", "/usr/share", "--user", "daemon:44", "--hostname", "box"])
        .args(&["--entrypoint", "/bin/sh", IMAGE, "-c", script, "zero"])
        .env("C", "of the shell")
        .run();
    let expected = "flag, of two words, of the shell\n/usr/share\n1\n44\nbox\nzero\n";
    assert_eq!(output.success(), expected);
}

#[test]
fn flags_describe_what_it_may_do() {
    let theca = Theca::new();
    let script = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'
        ulimit -Sn; ulimit -Hn
        touch /x 2>/dev/null || echo read-only
        df --output=size -k /scratch | tail -n 1 | tr -d ' '; touch /scratch/x && ls /scratch
        cat /sys/fs/cgroup/pids.max /proc/self/oom_score_adj /proc/sys/kernel/msgmax";
    let output = theca
        .command(&["run", "--rm", "--read-only", "--tmpfs", "/scratch:size=1m", "--pids-limit", "33"])
        .args(&["--cap-drop", "all", "--cap-add", "kill,net_raw", "--ulimit", "nofile=100:200"])
        .args(&["--security-opt", "no-new-privileges", "--oom-score-adj", "55"])
        .args(&["--sysctl", "kernel.msgmax=4321", IMAGE, "sh", "-c", script])
        .run();
    let capabilities = "CapEff:0000000000002020\nCapBnd:0000000000002020\n";
    let rest = "NoNewPrivs:1\nSeccomp:2\n100\n200\nread-only\n1024\nx\n33\n55\n4321\n";
    assert_eq!(output.success(), format!("{capabilities}{rest}"));
}

#[test]
fn processors_and_memory_are_as_asked() {
    let theca = Theca::new();
    let script = "nproc; cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max
        awk '/MemTotal/ {print $2}' /proc/meminfo";
    let output = theca.run(&["--rm", "--cpus", "0.5", "--memory", "128m", IMAGE, "sh", "-c", script]);
    let lines: Vec<&str> = output.success().lines().collect();
    assert_eq!(lines[..3], ["1", "50000 100000", "134217728"]);
    // The guest's kernel takes its part.
    let kib: u64 = lines[3].parse().unwrap();
    assert!((96 << 10..=128 << 10).contains(&kib), "MemTotal is {kib} KiB");
}

#[test]
fn a_container_runs_in_the_least_memory_that_is_offered() {
    let theca = Theca::new();
    let script = "cat /sys/fs/cgroup/memory.max; awk '/MemTotal/ {print $2}' /proc/meminfo";
    let output = theca.run(&["--rm", "--memory", "48m", IMAGE, "sh", "-c", script]);
    let (limit, total) = output.success().trim().split_once('\n').expect("two lines");
    assert_eq!(limit, "50331648");
    // The guest's kernel takes its part.
    let kib: u64 = total.parse().unwrap();
    assert!((24 << 10..=48 << 10).contains(&kib), "MemTotal is {kib} KiB");
}

#[test]
fn the_id_is_written_and_labels_are_kept() {
    let theca = Theca::empty();
    let folder = tempfile::tempdir().unwrap();
    let cidfile = folder.path().join("cid").to_string_lossy().into_owned();
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let create = ["create", "--cidfile", &cidfile, "--label", "tier=web", "-l", "bare", "--rootfs", &rootfs];
    let id = theca.cli(&[&create[..], &["true"]].concat()).success().trim().to_owned();
    assert_eq!(std::fs::read_to_string(&cidfile).unwrap(), id);
    let labels = theca.inspect(&id)["Config"]["Labels"].take();
    assert_eq!(labels, serde_json::json!({ "tier": "web", "bare": "" }));
    theca.cli(&[&create[..], &["true"]].concat()).exits(125).says("--cidfile exists");
}

#[test]
fn a_folder_runs_and_is_not_written_to() {
    let theca = Theca::empty();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let rootfs = folder.path().join("rootfs");
    let copied =
        Invocation::new("cp", &["-a".as_ref(), fixtures::busybox_rootfs().as_os_str(), rootfs.as_os_str()]);
    copied.run().success();
    let script = "echo written > /etc/new; cat /etc/new; rm /etc/passwd; ls /etc";
    let output = theca.run(&["--rm", "--rootfs", &rootfs.to_string_lossy(), "sh", "-c", script]);
    assert!(output.success().starts_with("written\n"));
    assert!(!output.stdout.contains("passwd"), "{output}");
    assert!(rootfs.join("etc/passwd").exists() && !rootfs.join("etc/new").exists());
}

#[test]
fn signals_to_the_command_reach_the_container() {
    let theca = Theca::new();
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
    let running = theca.start(&["run", "--name", "trap", IMAGE, "sh", "-c", script]);
    theca.wait_for_log("trap", "ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().exits(5).stdout, "ready\ncaught\n");
}

#[test]
fn a_container_knows_its_own_name_and_loopback() {
    let theca = Theca::empty();
    let rootfs = fixtures::busybox_rootfs().to_string_lossy().into_owned();
    let script = "cat /etc/hostname; cat /etc/hosts; cat /etc/resolv.conf; echo 10.0.0.1 db >> /etc/hosts && echo mine";
    let run = ["--rm", "--hostname", "box.example.org", "--rootfs", &rootfs, "sh", "-c", script];
    let output = theca.run(&run);
    let seen = output.success();
    assert!(
        seen.starts_with("box.example.org\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost"),
        "{seen}"
    );
    assert!(seen.contains("\n127.0.0.1\tbox.example.org box\n") && seen.ends_with("mine\n"), "{seen}");
    let run =
        ["--rm", "--read-only", "--rootfs", &rootfs, "sh", "-c", "cat /etc/hostname; echo >> /etc/hosts"];
    let output = theca.run(&run);
    assert_eq!(output.exits(1).says("ead-only file system").stdout.len(), 13, "the short id: {output}");
    theca
        .run(&["--hostname", "no host", "--rootfs", &rootfs, "true"])
        .exits(125)
        .says("cannot be a host name");
}
