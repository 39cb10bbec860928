//! What a process may do: its user, capabilities, limits and system calls, looked at from inside.

mod support;

use serde_json::{Value, json};
use support::{Client, Container, Guest, output, refusal};
use theca_proto::containerd::services::tasks::v1::kill_request::PidOrAll;
use theca_proto::theca::agent::v1::*;

#[tokio::test]
async fn capabilities_are_as_asked() {
    let caps = json!({"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
    let spec = Container::sh("grep -E 'Cap|NoNewPrivs' /proc/self/status | tr -d '\\t'")
        .with("/process/capabilities", caps)
        .with("/process/user", json!({"uid": 1000, "gid": 1001}));
    let seen = output(&spec).await;
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
    let seen = output(&spec).await;
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
        let seen = output(&Container::sh(line).with("/process/user", user)).await;
        assert_eq!(seen, expected);
    }
    let nobody = json!({"uid": 0, "gid": 0, "username": "eve"});
    let error = refusal(&Container::new(["true"]).with("/process/user", nobody)).await;
    assert!(error.message().contains("eve"), "{error}");
}

#[tokio::test]
async fn another_user_can_use_the_standard_streams() {
    let spec = Container::sh("echo to out > /dev/stdout; echo to err > /dev/stderr")
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let guest = Guest::start();
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
    let seen = output(&spec).await;
    assert_eq!(seen, "123\n0\n321\n/made/for/it\n7\n");
}

#[tokio::test]
async fn system_calls_are_filtered_for_init_and_exec() {
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}]});
    for no_new_privileges in [true, false] {
        let guest = Guest::start();
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
async fn the_set_up_process_leaks_no_descriptor() {
    let seen = output(&Container::sh("ls -1 /proc/self/fd | wc -l; env")).await;
    // 0, 1, 2 and the folder that is being listed.
    assert!(seen.starts_with("4\n"), "{seen}");
    assert!(!seen.contains("RUST"), "{seen}");
}

#[tokio::test]
async fn an_exec_has_no_more_rights_than_it_asks_for() {
    let guest = Guest::start();
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
    let guest = Guest::start();
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
async fn a_limit_that_is_to_be_checked_is_refused_while_more_is_in_use() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    client.create_silent("c", &Container::sh("sleep 1000; exit")).await.unwrap();
    client.start("c").await.unwrap();
    let update = |limit: u64| {
        let resources = json!({"memory": {"limit": limit, "checkBeforeUpdate": true}}).to_string();
        UpdateRequest { container_id: "c".into(), resources: resources.into() }
    };
    client.agent.update(update(1 << 30)).await.unwrap();
    let error = client.agent.update(update(4096)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition);
    assert!(error.message().starts_with("memory is not limited to 4096 bytes, for "), "{error}");
    assert_eq!(guest.cgroup_file("c", "memory.max"), "1073741824\n");
}

#[tokio::test]
async fn no_signal_is_ignored_unasked() {
    let guest = Guest::start();
    let mut client = guest.client().await;
    let line = "grep SigIgn /proc/self/status";
    let (_, mut io) = client.create("c", &Container::sh(&format!("{line}; sleep 1000"))).await.unwrap();
    client.start("c").await.unwrap();
    assert_eq!(io.expect("\n").await, "SigIgn:\t0000000000000000\n");
    let (pid, io) = client.exec("c", "e", Client::shell(line), false).await.unwrap();
    assert_eq!(client.finish("c", pid, io).await.stdout, "SigIgn:\t0000000000000000\n");
    // A shell would report it if its child went on.
    let (pid, io) = client.exec("c", "f", Client::shell("yes | head -n 1"), false).await.unwrap();
    let ended = client.finish("c", pid, io).await;
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("y\n", ""));
}
