//! The same bundle under runc and under Theca: what the container prints and how it ends must not differ.

use std::process::Command;

use serde_json::json;
use theca_tests::{Bundle, Invocation, Pty, Theca};

/// A bundle that runs a shell script as `runc spec` has it.
fn script(text: &str) -> Bundle {
    Bundle::new(&["sh", "-c", text])
}

#[test]
fn the_default_configuration_means_the_same() {
    let facts = script(
        "id; pwd; umask; uname -n; env | sort; echo $0 $# $$; cat /proc/self/oom_score_adj /proc/self/cgroup
        grep -E '^(PPid|Uid|Gid|Groups|Cap.*|NoNewPrivs|Seccomp|SigBlk):' /proc/self/status
        ulimit -Sn; ulimit -Hn; tr '\\0' ' ' < /proc/1/cmdline | head -n 1; ls /proc/self/fd
        touch /x; ls -id /proc/1/root/ | cut -c 1; exit 77",
    );
    let output = facts.same_under_both(&Theca::empty());
    assert!(output.exits(77).stdout.contains("NoNewPrivs:\t1"), "{output}");
}

#[test]
fn user_groups_and_capabilities() {
    let mut bundle = script(
        "id; umask; touch /tmp/x; stat -c '%a %u:%g' /tmp /tmp/x; grep -E '^(Groups|Cap.*|Seccomp):' /proc/self/status
        cat /proc/self/oom_score_adj; uname -n; cat /proc/sys/kernel/domainname; pwd; env | sort",
    );
    let process = &mut bundle.config["process"];
    process["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [44, 100], "umask": 0o027 });
    process["capabilities"] = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    });
    process["oomScoreAdj"] = json!(123);
    process["noNewPrivileges"] = json!(false);
    process["cwd"] = json!("/bin");
    process["env"] = json!(["PATH=/bin", "ODD= a=b ", "EMPTY="]);
    bundle.config["hostname"] = json!("twin");
    bundle.config["domainname"] = json!("example");
    let tmp = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "size=1m"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(tmp);
    bundle.same_under_both(&Theca::empty()).success();
}

#[test]
fn mounts_devices_and_guarded_paths() {
    // Sizes and the like are the machine's; place, type and the flags that guard are the configuration's. Files that not
    // both kernels have (Theca's has neither kcore nor sysrq) cannot be compared.
    let guards = "awk '$2 != \"/\" { line = $2 \" \" $3
            n = split($4, options, \",\")
            for (i = 1; i <= n; i++) if (options[i] ~ /^(ro|rw|nosuid|nodev|noexec)$/) line = line \" \" options[i]
            print line }' /proc/mounts |
            grep -v -E '^/proc/(acpi|asound|kcore|keys|latency|scsi|sched|sysrq|timer)|^/sys/(firmware|devices)'";
    let devices = "ls -l /dev | awk '$1 ~ /^[cl]/ && $NF != \"/proc/kcore\" { print $1, $5, $NF }'; stat -c '%n %F %a %u %t %T' /dev/null /dev/tty /dev/pts/ptmx";
    let guarded = "for path in /proc/keys /proc/timer_list /sys/firmware; do
            test -e $path && { wc -c < $path; ls $path | wc -l; } 2>&1; done
        for path in /proc/sys/kernel/hostname /proc/irq/x /sys/x /sys/fs/cgroup/x /x; do
            echo 1 > $path && echo written to $path; done 2>&1
        touch /dev/shm/ok && ls /dev/shm; mknod /dev/mem1 c 1 1 2>&1; dd if=/dev/zero bs=1 count=3 2>/dev/null | wc -c";
    script(&format!("{guards}\n{devices}\n{guarded}")).same_under_both(&Theca::empty()).success();
}

#[test]
fn mounts_propagate_as_asked() {
    // Numbers of peer groups are the machine's.
    let shown = "awk '$5 ~ \"^/(mnt|proc)?$\" { $1 = $5
        for (i = 7; $i != \"-\"; i++) { sub(/:.*/, \"\", $i); $1 = $1 \" \" $i }
        print $1 }' /proc/self/mountinfo | sort";
    for (root, mount) in
        [("private", "shared"), ("slave", "rslave"), ("shared", "private"), ("unbindable", "unbindable")]
    {
        let mut bundle = script(shown);
        bundle.config["linux"]["rootfsPropagation"] = json!(root);
        let mnt = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": [mount] });
        bundle.config["mounts"].as_array_mut().unwrap().push(mnt);
        bundle.same_under_both(&Theca::empty()).success();
    }
}

#[test]
fn files_of_the_bundle_are_bound() {
    let theca = Theca::empty();
    let mut bundle =
        script("cat /etc/passwd /etc/group; ls -l /etc/passwd | cut -c 1-10; echo x >> /etc/group");
    for (name, content) in [("users", "root:x:0:0:of the bundle:/:/bin/sh\n"), ("groups", "wheel:x:0:\n")] {
        std::fs::write(bundle.path().join(name), content).unwrap();
    }
    let users = bundle.path().join("users");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts
        .push(json!({ "destination": "/etc/passwd", "type": "bind", "source": users, "options": ["bind"] }));
    mounts.push(
        json!({ "destination": "/etc/group", "type": "bind", "source": "groups", "options": ["bind", "ro"] }),
    );
    let output = bundle.same_under_both(&theca);
    assert!(output.exits(1).stdout.contains("of the bundle"), "{output}");
    // A container that is started later has what the bundle had when it was made.
    let path = bundle.path().to_string_lossy().into_owned();
    theca.cli(&["create", "--name", "later", "--bundle", &path]).success();
    std::fs::remove_file(bundle.path().join("users")).unwrap();
    let started = theca.cli(&["start", "--attach", "later"]);
    assert_eq!(started.exits(1).stdout, output.stdout);
}

#[test]
fn a_hook_in_the_container() {
    let mut bundle = script("cat /tmp/hook; ls /tmp");
    let process = &mut bundle.config["process"];
    process["user"] = json!({ "uid": 1000, "gid": 1000 });
    let tmp = json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777", "size=1m"] });
    bundle.config["mounts"].as_array_mut().unwrap().push(tmp);
    let note = "exec >> /tmp/hook; echo $0 $1 $ONE; id -u; pwd; uname -n; tr ',{}' '\\n' | grep -E '\"(status|pid)\"' | sort";
    let hook = |name: &str| json!({ "path": "/bin/sh", "args": ["sh", "-c", note, name, "x"], "env": ["ONE=1", "PATH=/bin"], "timeout": 20 });
    bundle.config["hooks"] = json!({ "startContainer": [hook("first"), hook("second")] });
    let output = bundle.same_under_both(&Theca::empty());
    assert!(output.success().contains("second x 1"), "{output}");
    // One that fails is a failure of the start; whose code it is differs.
    let missing = json!({ "startContainer": [{ "path": "/usr/libexec/no-such-hook" }] });
    bundle.config["hooks"] = missing;
    assert_ne!(bundle.runc().code, 0);
    let output = bundle.theca(&Theca::empty());
    output
        .exits(125)
        .says("run the startContainer hook /usr/libexec/no-such-hook: no such file or directory");
}

#[test]
fn limits_seen_from_inside() {
    let mut bundle = script(
        "cd /sys/fs/cgroup && cat memory.max memory.low memory.swap.max pids.max cpu.max cpu.weight cpuset.cpus
        cat cgroup.type cgroup.freeze; head -n 1 cgroup.procs
        for limit in f d s c u n l; do ulimit -S$limit; ulimit -H$limit; done
        cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward
        mkdir /sys/fs/cgroup/x 2>&1",
    );
    bundle.config["linux"]["resources"] = json!({
        "memory": { "limit": 64 << 20, "reservation": 16 << 20, "swap": 64 << 20 },
        "pids": { "limit": 50 },
        "cpu": { "quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0" },
        "devices": [{ "allow": false, "access": "rwm" }],
    });
    bundle.config["linux"]["sysctl"] = json!({ "kernel.msgmax": "4096", "net.ipv4.ip_forward": "1" });
    bundle.config["process"]["rlimits"] = json!([
        { "type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 2 << 20 },
        { "type": "RLIMIT_DATA", "soft": 1 << 27, "hard": 1 << 28 },
        { "type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 8 << 20 },
        { "type": "RLIMIT_CORE", "soft": 0, "hard": 512 },
        { "type": "RLIMIT_NPROC", "soft": 500, "hard": 500 },
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
        { "type": "RLIMIT_MEMLOCK", "soft": 4096, "hard": 8192 },
    ]);
    bundle.same_under_both(&Theca::empty());
}

#[test]
fn a_system_call_filter() {
    let mut bundle =
        script("mkdir /tmp/x; chmod 700 /tmp; echo $?; uname -n; sync; echo $?; sleep 0.1; echo $?");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO",
              "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_NE" }] },
            { "names": ["sync"], "action": "SCMP_ACT_KILL_PROCESS" },
        ],
    });
    let output = bundle.same_under_both(&Theca::empty());
    assert!(output.success().contains("159"), "killed by SIGSYS: {output}");
}

#[test]
fn exit_codes_and_deaths() {
    let theca = Theca::empty();
    // Not INT: runc's container inherits that it is ignored where this runs in the background.
    let children = "for signal in HUP KILL TERM SEGV USR1; do sh -c \"kill -$signal \\$\\$\"; echo $?; done
        sh -c 'exit 300'; echo $?; kill -9 $$; kill -TERM $$; echo still here; exit 255";
    script(children).same_under_both(&theca).exits(255);
    // Without a pid namespace the container's own first process is no init, and dies like any other.
    for signal in ["KILL", "TERM", "ABRT"] {
        let mut bundle = script(&format!("kill -{signal} $$"));
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        bundle.same_under_both(&theca);
    }
}

#[test]
fn a_process_that_joins_later_finds_the_same() {
    let (theca, bundle) = (Theca::empty(), script("echo ready; sleep 1000"));
    let folder = bundle.path().to_string_lossy().into_owned();
    let twin = Invocation::new("runc", &["run", "--bundle", &folder, "joined"]).start();
    let ours = theca.start(&["run", "--name", "joined", "--bundle", &folder]);
    twin.expect("ready");
    ours.expect("ready");
    let facts = "id; pwd; umask; env | sort; cat /proc/self/cgroup /proc/self/oom_score_adj; ulimit -n
        grep -E '^(Groups|Cap.*|NoNewPrivs|Seccomp|SigBlk):' /proc/self/status
        tr '\\0' ' ' < /proc/1/cmdline; for name in mnt pid net ipc uts cgroup; do
            test $(readlink /proc/self/ns/$name) = $(readlink /proc/1/ns/$name) && echo same $name; done; exit 5";
    for (of_runc, of_theca) in [
        (&[][..], &[][..]),
        (&["--user", "1000:44", "--cwd", "/tmp"], &["--user", "1000:44", "--workdir", "/tmp"]),
        (&["--env", "ADDED=1", "--env", "TERM=vt100"], &["--env", "ADDED=1", "--env", "TERM=vt100"]),
    ] {
        let command = ["joined", "sh", "-c", facts];
        let expected = Invocation::new("runc", &[&["exec"], of_runc, &command].concat()).run();
        let found = theca.exec(&[of_theca, &command].concat());
        assert_eq!(found.exits(5).stdout, expected.exits(5).stdout, "Theca (left) and runc (right) differ");
    }
    Invocation::new("runc", &["kill", "joined", "KILL"]).run().success();
    theca.cli(&["kill", "joined"]).success();
    assert_eq!((ours.wait().code, twin.wait().code), (137, 137));
}

#[test]
fn a_terminal_is_set_the_same() {
    let theca = Theca::empty();
    // runc leaves the new lines to the terminal outside; ours are as docker's.
    let mut bundle = script(
        "tty; stty -a | tr ' ' '\\n' | grep -v onlcr; test -t 0 && test -t 1 && test -t 2 && echo all three; stat -c '%F %a %u:%g %t %n' /dev/console; exit 4",
    );
    bundle.config["process"]["terminal"] = json!(true);
    let folder = bundle.path().to_string_lossy().into_owned();
    let shown = |mut pty: Pty| {
        let text = pty.expect("/dev/console");
        (text, pty.wait())
    };
    let mut runc = Command::new("runc");
    let expected = shown(Pty::start(runc.args(["run", "--bundle", &folder, "typed"])));
    assert_eq!(shown(theca.pty(&["run", "--rm", "-i", "--bundle", &folder])), expected);
}

#[test]
fn signals_from_outside_arrive() {
    let theca = Theca::empty();
    // A shell may lose one that comes while it forks.
    let handlers = r#"$| = 1; for my $name (qw(HUP INT USR1 USR2 TERM WINCH CONT)) { $SIG{$name} = sub { print "got $name\n" } }
        $SIG{QUIT} = sub { print "enough\n"; exit 9 }; print "ready\n"; sleep 1 while 1"#;
    let twins = Bundle::debian(&["perl", "-e", handlers]);
    let folder = twins.path().to_string_lossy().into_owned();
    let runc = Invocation::new("runc", &["run", "--bundle", &folder, "twins"]).start();
    let ours = theca.start(&["run", "--name", "twins", "--bundle", &folder]);
    for signal in ["", "HUP", "INT", "USR1", "USR2", "TERM", "WINCH", "CONT"] {
        if !signal.is_empty() {
            Invocation::new("runc", &["kill", "twins", signal]).run().success();
            theca.cli(&["kill", "--signal", signal, "twins"]).success();
        }
        let expected = if signal.is_empty() { "ready".into() } else { format!("got {signal}\n") };
        runc.expect(&expected);
        ours.expect(&expected);
    }
    Invocation::new("runc", &["kill", "twins", "QUIT"]).run().success();
    theca.cli(&["kill", "--signal", "QUIT", "twins"]).success();
    let (runc, ours) = (runc.wait(), ours.wait());
    assert_eq!((ours.exits(9).stdout.as_str(), ours.code), (runc.stdout.as_str(), runc.code));
}

#[test]
fn a_real_debian_with_its_own_tools() {
    let bundle = Bundle::debian(&[
        "bash",
        "-c",
        "cat /etc/debian_version; id -Gn; getent passwd daemon; perl -e 'print 6 * 7, \"\\n\"'
        findmnt -n -o TARGET /proc; stat -f -c %T /dev/shm; getconf PAGESIZE; dpkg --print-architecture; ls /root -A",
    ]);
    bundle.same_under_both(&Theca::empty()).success();
}
