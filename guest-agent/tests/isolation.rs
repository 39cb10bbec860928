//! What a container sees and may do: everything a runtime spec can ask for, looked at from inside.

mod support;

use serde_json::{Value, json};
use support::{Client, Container, Guest};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::containerd::services::tasks::v1::*;
use theca_proto::theca::agent::v1::*;
use tonic::Code;

/// Runs one container and gives back what it printed; its own complaints fail the test.
async fn output(container: &Container) -> Option<String> {
    let guest = Guest::start()?;
    let ended = guest.client().await.run("c", container).await.unwrap();
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    Some(ended.stdout)
}

/// Tries to create a container that cannot be.
async fn refusal(container: &Container) -> Option<tonic::Status> {
    let guest = Guest::start()?;
    let error = guest.client().await.create_silent("c", container).await.unwrap_err();
    assert_eq!(guest.cgroups(), [""; 0]);
    Some(error)
}

#[tokio::test]
async fn namespaces_are_the_containers_own() {
    let line = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ip -o link | wc -l; cat /proc/self/cgroup";
    let Some(seen) = output(&Container::sh(line)).await else { return };
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1", "box"));
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{seen}");
    assert_eq!(lines[3], "1", "loopback only");
    assert!(seen.contains("0::/\n"), "the cgroup is the root: {seen}");
}

#[tokio::test]
async fn loopback_is_up() {
    let Some(seen) = output(&Container::sh("ip -o link show lo")).await else { return };
    assert!(seen.contains("UP"), "{seen}");
}

#[tokio::test]
async fn a_namespace_that_is_left_out_is_shared() {
    let spec = Container::sh("readlink /proc/self/ns/net").with(
        "/linux/namespaces",
        json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}]),
    );
    let Some(seen) = output(&spec).await else { return };
    assert_eq!(seen.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_container_joins_the_namespaces_of_another_by_path() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    let pid = client.create_silent("a", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("a").await.unwrap();
    let path = |kind| format!("/proc/{pid}/ns/{kind}");
    let namespaces = json!([{"type": "pid", "path": path("pid")}, {"type": "network", "path": path("net")},
        {"type": "uts", "path": path("uts")}, {"type": "ipc"}, {"type": "mount"}, {"type": "cgroup"}]);
    let joining =
        Container::sh("readlink /proc/self/ns/net; hostname; tr '\\0' ' ' < /proc/1/cmdline; echo $$")
            .with("/linux/namespaces", namespaces)
            .with("/hostname", Value::Null);
    let ended = client.run("b", &joining).await.unwrap();
    let network = std::fs::read_link(path("net")).unwrap();
    let expected = format!("{}\nbox\nsleep 1000 ", network.display());
    assert!(ended.stdout.starts_with(&expected), "{ended:?}");
    assert!(!ended.stdout.ends_with(" 1\n"), "it is not pid 1 there: {ended:?}");
}

#[tokio::test]
async fn devices_are_the_usual_ones_and_links_lead_to_them() {
    let line = "cd /dev; ls -1; for link in fd stdin ptmx; do readlink $link; done; head -c 4 zero | wc -c; echo x > null; stat -c %t:%T:%a null";
    let Some(seen) = output(&Container::sh(line)).await else { return };
    for name in
        ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stdin", "tty", "urandom", "zero"]
    {
        assert!(seen.lines().any(|line| line == name), "{name}: {seen}");
    }
    assert!(seen.ends_with("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n4\n1:3:666\n"), "{seen}");
}

#[tokio::test]
async fn block_devices_can_be_made_and_not_opened() {
    let line = "mknod /tmp/disk b 7 0 && cat /tmp/disk | wc -c; mknod /tmp/mem c 1 1 && cat /tmp/mem; \
                mknod /tmp/null c 1 3 && cat /tmp/null";
    let everything = json!([{"allow": true, "access": "rwm"}]);
    for (rules, memory) in [(json!([]), true), (everything, false)] {
        let spec = Container::sh(line).with("/linux/resources/devices", rules);
        let Some(guest) = Guest::start() else { return };
        let ended = guest.client().await.run("c", &spec).await.unwrap();
        assert!(ended.stderr.contains("/tmp/disk': Operation not permitted"), "{ended:?}");
        assert_eq!(
            ended.stderr.contains("/tmp/mem': Operation not permitted") && memory,
            memory,
            "{ended:?}"
        );
        assert!(!ended.stderr.contains("/tmp/null"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_device_of_the_spec_has_its_owner_and_mode() {
    let device = json!([{"path": "/dev/mine", "type": "c", "major": 10, "minor": 200,
        "fileMode": 0o640, "uid": 5, "gid": 6}]);
    let spec = Container::sh("stat -c %t:%T:%a:%u:%g /dev/mine").with("/linux/devices", device);
    let Some(seen) = output(&spec).await else { return };
    assert_eq!(seen, "a:c8:640:5:6\n");
    let disk = json!([{"path": "/dev/disk", "type": "b", "major": 254, "minor": 0}]);
    let Some(error) = refusal(&Container::new(["true"]).with("/linux/devices", disk)).await else { return };
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
}

#[tokio::test]
async fn capabilities_are_as_asked() {
    let caps = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    let spec = Container::sh("grep -E 'Cap|NoNewPrivs' /proc/self/status | tr -d '\\t'")
        .with("/process/capabilities", caps)
        .with("/process/user", json!({"uid": 1000, "gid": 1001}));
    let Some(seen) = output(&spec).await else { return };
    let kill = "0000000000000020";
    // What is executed as another user than root keeps the ambient ones.
    let expected = format!(
        "CapInh:{kill}\nCapPrm:{kill}\nCapEff:{kill}\nCapBnd:0000000000000021\nCapAmb:{kill}\nNoNewPrivs:1\n"
    );
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_process_without_capabilities_has_none() {
    let spec = Container::sh("grep Cap /proc/self/status").with("/process/capabilities", Value::Null);
    let Some(seen) = output(&spec).await else { return };
    assert!(seen.lines().all(|line| line.ends_with("0000000000000000")), "{seen}");
}

#[tokio::test]
async fn a_user_is_found_by_name_or_number() {
    let line = "id -u; id -g; id -G; echo $HOME; umask";
    for (user, expected) in [
        (json!({"uid": 0, "gid": 0, "username": "ann"}), "1000\n1001\n1001 29\n/home/ann\n0022\n"),
        (json!({"uid": 0, "gid": 0, "username": "ann:29"}), "1000\n29\n29\n/home/ann\n0022\n"),
        (json!({"uid": 0, "gid": 0, "username": "777"}), "777\n0\n0\n/\n0022\n"),
        (
            json!({"uid": 1000, "gid": 5, "additionalGids": [7, 8], "umask": 63}),
            "1000\n5\n5 7 8\n/home/ann\n0077\n",
        ),
    ] {
        let Some(seen) = output(&Container::sh(line).with("/process/user", user)).await else { return };
        assert_eq!(seen, expected);
    }
    let nobody = json!({"uid": 0, "gid": 0, "username": "eve"});
    let Some(error) = refusal(&Container::new(["true"]).with("/process/user", nobody)).await else { return };
    assert!(error.message().contains("eve"), "{error}");
}

#[tokio::test]
async fn another_user_can_use_the_standard_streams() {
    let spec = Container::sh("echo to out > /dev/stdout; echo to err > /dev/stderr")
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let Some(guest) = Guest::start() else { return };
    let ended = guest.client().await.run("c", &spec).await.unwrap();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("to out\n", "to err\n"));
}

#[tokio::test]
async fn limits_scheduling_and_folder_are_as_asked() {
    let spec = Container::sh("ulimit -n; ulimit -c; cat /proc/self/oom_score_adj; pwd; cut -d' ' -f19 /proc/self/stat")
        .with(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
        )
        .with("/process/oomScoreAdj", json!(321))
        .with("/process/cwd", json!("/made/for/it"))
        .with("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
    let Some(seen) = output(&spec).await else { return };
    assert_eq!(seen, "123\n0\n321\n/made/for/it\n7\n");
}

#[tokio::test]
async fn hidden_paths_are_empty_and_read_only_ones_cannot_be_written() {
    let line = "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; cat /etc/group | wc -c; \
                echo 1 > /proc/sys/kernel/msgmax && echo written; echo x > /etc/passwd && echo written";
    let spec = Container::sh(line)
        .with("/linux/maskedPaths", json!(["/proc/kcore", "/sys/firmware", "/etc/group", "/nosuch"]))
        .with("/linux/readonlyPaths", json!(["/proc/sys", "/etc/passwd", "/nosuch"]));
    let Some(guest) = Guest::start() else { return };
    let ended = guest.client().await.run("c", &spec).await.unwrap();
    assert_eq!(ended.stdout, "0\n0\n0\n");
    assert_eq!(ended.stderr.matches("Read-only file system").count(), 2, "{ended:?}");
}

#[tokio::test]
async fn a_mask_does_not_follow_a_link_out_of_the_container() {
    // The image says that /proc/keys is somewhere else entirely; only the container's own path may be covered.
    let spec = Container::sh("mount | grep -c masked")
        .mount(json!({"destination": "/lnk", "type": "tmpfs", "source": "masked"}))
        .with("/linux/maskedPaths", json!(["/lnk/../../../../../../etc/passwd"]));
    let before = std::fs::read_to_string("/etc/passwd").unwrap();
    let Some(seen) = output(&spec).await else { return };
    assert_eq!(seen, "1\n");
    assert_eq!(std::fs::read_to_string("/etc/passwd").unwrap(), before);
}

#[tokio::test]
async fn a_read_only_root_cannot_be_written_and_mounts_below_it_can() {
    let line = "touch /new; touch /dev/shm/new && echo ok";
    for spec in [
        Container::sh(line).with("/root/readonly", json!(true)),
        Container { read_only: true, ..Container::sh(line) },
    ] {
        let Some(guest) = Guest::start() else { return };
        let ended = guest.client().await.run("c", &spec).await.unwrap();
        assert_eq!(ended.stdout, "ok\n");
        assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    }
}

#[tokio::test]
async fn what_one_container_writes_another_does_not_see() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    assert_eq!(client.run("a", &Container::sh("echo mine > /etc/group")).await.unwrap().status, 0);
    let other = client.run("b", &Container::sh("cat /etc/group")).await.unwrap();
    assert!(other.stdout.starts_with("root:"), "{other:?}");
}

#[tokio::test]
async fn mounts_bind_guest_folders_with_their_options() {
    let Some(guest) = Guest::start() else { return };
    let shared = guest.folder().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("note"), "from outside\n").unwrap();
    let bind = |destination: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": shared, "options": options});
    let spec = Container::sh("cat /rw/note; echo inside > /rw/new; touch /ro/x; grep -E ' /(ro|rw) ' /proc/mounts | cut -d' ' -f2,4")
        .mount(bind("/rw", &["rbind", "rw", "nosuid"]))
        .mount(bind("/ro", &["rbind", "rro", "noexec"]));
    let ended = guest.client().await.run("c", &spec).await.unwrap();
    assert!(ended.stdout.starts_with("from outside\n"), "{ended:?}");
    let options = |start: &str| ended.stdout.lines().find(|line| line.starts_with(start)).unwrap_or_default();
    assert!(options("/rw rw,").contains("nosuid"), "{ended:?}");
    assert!(options("/ro ro,").contains("noexec"), "{ended:?}");
    assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    assert_eq!(std::fs::read_to_string(shared.join("new")).unwrap(), "inside\n");
}

#[tokio::test]
async fn a_mount_point_behind_a_link_of_the_image_stays_inside() {
    let Some(guest) = Guest::start() else { return };
    let outside = guest.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    // A folder of links, bound into the container, plays the hostile image.
    let image = guest.folder().join("links");
    std::fs::create_dir(&image).unwrap();
    std::os::unix::fs::symlink(&outside, image.join("trap")).unwrap();
    let spec = Container::sh("true")
        .mount(json!({"destination": "/links", "type": "bind", "source": image, "options": ["bind"]}))
        .mount(json!({"destination": "/links/trap/deep", "type": "tmpfs", "source": "tmpfs"}));
    let error = guest.client().await.create_silent("c", &spec).await.unwrap_err();
    assert!(error.message().contains("/links/trap"), "{error}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_bind_source_is_named() {
    let mount = json!({"destination": "/x", "type": "bind", "source": "/nosuch/folder", "options": ["bind"]});
    let Some(error) = refusal(&Container::new(["true"]).mount(mount)).await else { return };
    assert!(error.message().contains("/nosuch/folder"), "{error}");
}

#[tokio::test]
async fn system_calls_are_filtered_for_init_and_exec() {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]});
    for no_new_privileges in [true, false] {
        let Some(guest) = Guest::start() else { return };
        let mut client = guest.client().await;
        let line = "mkdir /x; kill -USR1 $$; kill -CONT $$ && echo fine; grep '^Seccomp:' /proc/self/status";
        let spec = Container::sh(&format!("{line}; sleep 1000"))
            .with("/linux/seccomp", filter.clone())
            .with("/process/noNewPrivileges", json!(no_new_privileges));
        let (_, mut io) = client.create("c", &spec).await.unwrap();
        client.start("c").await.unwrap();
        assert_eq!(io.expect("Seccomp").await, "fine\nSeccomp:\t2\n");
        let (pid, io) = client.exec("c", "e", Client::shell("mkdir /x; exit 0"), false).await.unwrap();
        let ended = client.finish("c", pid, io).await;
        assert!(ended.stderr.contains("Function not implemented"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_terminal_has_a_size_and_is_the_console() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    let spec =
        Container::sh("tty; stty size; echo direct > /dev/console; read line; stty size; echo got $line")
            .terminal()
            .with("/process/consoleSize", json!({"width": 100, "height": 30}));
    let (_, mut io) = client.create("c", &spec).await.unwrap();
    client.start("c").await.unwrap();
    let seen = io.expect("direct").await;
    assert!(seen.starts_with("/dev/pts/0\r\n30 100\r\ndirect"), "{seen:?}");
    client
        .tasks
        .resize_pty(ResizePtyRequest { container_id: "c".into(), pid: 0, width: 90, height: 20 })
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut io.stdin, b"typed\n").await.unwrap();
    let seen = io.expect("got typed").await;
    assert!(seen.contains("20 90\r\n"), "{seen:?}");
    assert_eq!(client.wait("c", 0).await, 0);
}

#[tokio::test]
async fn control_c_on_a_terminal_interrupts_an_exec() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("c").await.unwrap();
    let process = json!({"terminal": true, "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
        "args": ["sleep", "1000"]});
    let (pid, mut io) = client.exec("c", "e", process, true).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut io.stdin, &[3]).await.unwrap();
    io.expect("^C").await;
    assert_eq!(client.wait("c", pid).await, 128 + 2);
}

#[tokio::test]
async fn hooks_run_at_their_moments_with_the_state_on_stdin() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    let log = guest.folder().join("hooks.log");
    let note = |name: &str| {
        let line = format!("echo {name} $(cat) >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 10}])
    };
    let hooks = json!({
        "prestart": note("prestart"), "createRuntime": note("createRuntime"),
        "createContainer": note("createContainer"), "poststart": note("poststart"), "poststop": note("poststop"),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo hooked > /tmp/hooked"]}]
    });
    let spec = Container::sh("cat /tmp/hooked").with("/hooks", hooks);
    assert_eq!(client.run("c", &spec).await.unwrap().stdout, "hooked\n");
    let log = std::fs::read_to_string(log).unwrap();
    let moments: Vec<_> = log.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(moments, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    assert!(log.lines().all(|line| line.contains(r#"id:c"#) || line.contains(r#""id":"c""#)), "{log}");
}

#[tokio::test]
async fn a_failing_hook_fails_create_and_leaves_nothing() {
    for hook in [
        json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}),
        json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}),
        json!({"path": "/nosuch/hook"}),
    ] {
        let path = hook["path"].as_str().unwrap().to_owned();
        let spec = Container::new(["true"]).with("/hooks", json!({"createRuntime": [hook]}));
        let Some(error) = refusal(&spec).await else { return };
        assert!(error.message().contains(&path), "{error}");
    }
}

#[tokio::test]
async fn sysctls_of_the_containers_namespaces_are_set() {
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "16384"});
    let spec = Container::sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .with("/linux/sysctl", sysctl);
    let Some(seen) = output(&spec).await else { return };
    assert_eq!(seen, "1\n16384\n");
}

#[tokio::test]
async fn clocks_are_shifted_in_a_time_namespace() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    if release.starts_with("6.0") || release.starts_with("6.1.") || release.starts_with("5.") {
        eprintln!("skipped: before Linux 6.2 a program does not enter a time namespace as it is executed");
        return;
    }
    let namespaces = json!([{"type": "pid"}, {"type": "mount"}, {"type": "time"}]);
    let spec = Container::sh("cut -d. -f1 /proc/uptime")
        .with("/hostname", Value::Null)
        .with("/linux/namespaces", namespaces)
        .with("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    let Some(seen) = output(&spec).await else { return };
    assert!(seen.trim().parse::<u64>().unwrap() > 1_000_000, "{seen}");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    for (pointer, value, name) in [
        ("/process/apparmorProfile", json!("docker-default"), "apparmorProfile"),
        ("/process/selinuxLabel", json!("system_u:x"), "selinuxLabel"),
        ("/linux/intelRdt", json!({"closID": "x"}), "intelRdt"),
        ("/linux/namespaces", json!([{"type": "user"}, {"type": "mount"}]), "user"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}]), "uidMappings"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "vm.swappiness"),
        ("/linux/resources/memory", json!({"swappiness": 1}), "swappiness"),
        ("/mounts", json!([{"destination": "/x", "type": "ext4", "source": "/dev/vda"}]), "ext4"),
    ] {
        let Some(error) = refusal(&Container::new(["true"]).with(pointer, value)).await else { return };
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test]
async fn nonsense_is_an_invalid_argument() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    let request = |spec: &str| PrepareRequest {
        container_id: "c".into(),
        spec: spec.to_owned().into(),
        rootfs: Some(Rootfs::default()),
        ..Default::default()
    };
    for spec in ["", "{", "[]", r#"{"ociVersion":"1.0.0"}"#, r#"{"ociVersion":"2.0.0"}"#] {
        let error = client.agent.prepare(request(spec)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{spec}: {error}");
    }
    for id in ["", "..", "a/b"] {
        let request = PrepareRequest { container_id: id.into(), ..request("{}") };
        assert_eq!(client.agent.prepare(request).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
    }
}

#[tokio::test]
async fn the_set_up_process_leaks_no_descriptor() {
    let Some(seen) = output(&Container::sh("ls -1 /proc/self/fd | wc -l; env")).await else { return };
    // 0, 1, 2 and the folder that is being listed.
    assert!(seen.starts_with("4\n"), "{seen}");
    assert!(!seen.contains("RUST"), "{seen}");
}

#[tokio::test]
async fn an_exec_has_no_more_rights_than_it_asks_for() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    client.create_silent("c", &Container::new(["sleep", "1000"])).await.unwrap();
    client.start("c").await.unwrap();
    let process = json!({"user": {"uid": 1000, "gid": 1001}, "cwd": "/tmp", "env": ["PATH=/bin", "A=b"],
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep -E 'CapEff|NoNew' /proc/self/status; cat /proc/self/cgroup"],
        "capabilities": {"bounding": ["CAP_KILL"]}});
    let (pid, io) = client.exec("c", "e", process, false).await.unwrap();
    let ended = client.finish("c", pid, io).await;
    let expected = "1000\n/tmp\nb\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
    assert!(ended.stdout.starts_with(expected) && ended.stdout.contains("0::/\n"), "{ended:?}");
    client.kill("c", libc::SIGKILL, PidOrAll::All(true)).await.unwrap();
}

#[tokio::test]
async fn memory_and_processes_are_limited_and_counted() {
    let Some(guest) = Guest::start() else { return };
    if !guest.has_controller("memory") || !guest.has_controller("pids") {
        eprintln!("skipped: cgroup v2 has no memory and pids controllers here");
        return;
    }
    let mut client = guest.client().await;
    let mut events = client.agent.events(EventsRequest {}).await.unwrap().into_inner();
    let limits = json!({"memory": {"limit": 33_554_432, "swap": 33_554_432}, "pids": {"limit": 20},
        "cpu": {"shares": 512, "quota": 50000, "period": 100_000}});
    let line = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.weight cpu.max; dd if=/dev/zero of=/dev/null bs=100M count=1";
    let spec = Container::sh(&format!("({line}); echo $?; sleep 1000")).with("/linux/resources", limits);
    let (_, mut io) = client.create("c", &spec).await.unwrap();
    client.start("c").await.unwrap();
    let seen = io.expect("137").await;
    assert!(seen.starts_with("33554432\n20\n59\n50000 100000\n"), "{seen}");
    let event = events.message().await.unwrap().unwrap();
    assert!(matches!(event.event, Some(event::Event::Oom(_))), "{event:?}");
    let update = json!({"pids": {"limit": 30}}).to_string();
    client.agent.update(UpdateRequest { container_id: "c".into(), resources: update.into() }).await.unwrap();
    let stats =
        client.agent.stats(StatsRequest { container_id: "c".into() }).await.unwrap().into_inner().files;
    assert_eq!(stats["pids.max"], "30\n");
    assert!(stats["memory.events"].contains("oom_kill 1"), "{stats:?}");
    assert!(stats["cpu.stat"].contains("usage_usec"), "{stats:?}");
    client.kill("c", libc::SIGKILL, PidOrAll::All(true)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_comes_with_the_request_is_bound_where_the_spec_says() {
    let Some(guest) = Guest::start() else { return };
    let mut client = guest.client().await;
    let line = "cat /etc/hosts /new/name; echo more >> /etc/hosts; tail -n 1 /etc/hosts
        stat -c %a:%u /etc/hosts; dd if=/dev/zero of=/etc/hosts bs=1M count=4 2>/dev/null || echo full";
    let container =
        Container::sh(line).file("/etc/hosts", "127.0.0.1 localhost\n").file("/new/name", "box\n");
    let ended = client.run("c", &container).await.unwrap();
    assert_eq!(ended.stdout, "127.0.0.1 localhost\nbox\nmore\n644:0\nfull\n");
    assert_eq!(guest.mounts(), [""; 0]);
    let again = client.run("c", &Container::sh("cat /new/name").file("/new/name", "new\n")).await.unwrap();
    assert_eq!(again.stdout, "new\n");
}

#[tokio::test]
async fn a_file_is_bound_where_a_link_leads_that_leads_nowhere() {
    let line = "readlink /etc/resolv.conf; cat /etc/resolv.conf /run/resolve/conf";
    let container = Container::sh(line).file("/etc/resolv.conf", "search here\n");
    let Some(seen) = output(&container).await else { return };
    assert_eq!(seen, "../run/resolve/conf\nsearch here\nsearch here\n");
}

#[tokio::test]
async fn files_beyond_the_bounds_are_refused() {
    let Some(guest) = Guest::start() else { return };
    let mut container = Container::new(["true"]);
    container.files = vec![File { source: "/x".into(), content: vec![0; 300 << 10].into(), mode: 0o644 }];
    let error = guest.client().await.prepare("c", &container).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(guest.mounts(), [""; 0]);
}

#[tokio::test]
async fn hard_links_of_the_image_stay_one_file() {
    let line = "echo more >> /etc/plain; tail -n 1 /etc/linked; stat -c %h /etc/plain";
    for container in [Container::sh(line), Container::sh(line).on_disk()] {
        let Some(seen) = output(&container).await else { return };
        assert_eq!(seen, "more\n2\n");
    }
}
