//! What a container shares and what is its own: namespaces, clocks, sysctls and hooks, and what is refused.

mod support;

use serde_json::{Value, json};
use support::{Container, Guest, output, refusal};
use theca_proto::theca::agent::v1::*;
use tonic::Code;

#[tokio::test]
async fn namespaces_are_the_containers_own() {
    let line = "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ip -o link | wc -l; cat /proc/self/cgroup";
    let seen = output(&Container::sh(line)).await;
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1", "box"));
    assert!(lines[2].parse::<u32>().unwrap() <= 4, "{seen}");
    assert_eq!(lines[3], "1", "loopback only");
    assert!(seen.contains("0::/\n"), "the cgroup is the root: {seen}");
}

#[tokio::test]
async fn loopback_is_up() {
    let seen = output(&Container::sh("ip -o link show lo")).await;
    assert!(seen.contains("UP"), "{seen}");
}

#[tokio::test]
async fn a_namespace_that_is_left_out_is_shared() {
    let spec = Container::sh("readlink /proc/self/ns/net").with(
        "/linux/namespaces",
        json!([{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}]),
    );
    let seen = output(&spec).await;
    assert_eq!(seen.trim(), std::fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap());
}

#[tokio::test]
async fn a_container_joins_the_namespaces_of_another_by_path() {
    let guest = Guest::start();
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
async fn hooks_run_at_their_moments_with_the_state_on_stdin() {
    let guest = Guest::start();
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
    ] {
        let path = hook["path"].as_str().unwrap().to_owned();
        let spec = Container::new(["true"]).with("/hooks", json!({"createRuntime": [hook]}));
        let error = refusal(&spec).await;
        assert!(error.message().contains(&format!("run the createRuntime hook {path}")), "{error}");
    }
}

#[tokio::test]
async fn a_hook_whose_program_the_guest_does_not_have_is_refused_by_name() {
    for point in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let hook = json!({"path": "/usr/libexec/nosuch"});
        let error = refusal(&Container::new(["true"]).with("/hooks", json!({point: [hook]}))).await;
        let named =
            format!("hooks.{point} with /usr/libexec/nosuch is not supported: hooks of the runtime's");
        assert!(error.code() == Code::Unimplemented && error.message().starts_with(&named), "{error}");
    }
}

#[tokio::test]
async fn hooks_of_a_container_are_told_that_it_is_created_and_who_is_its_init() {
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state"]}]);
    let spec = Container::sh("cat /tmp/state").with("/hooks", json!({"startContainer": hook}));
    let seen = output(&spec).await;
    let state: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(1)), "{seen}");
}

#[tokio::test]
async fn sysctls_of_the_containers_namespaces_are_set() {
    let sysctl = json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "16384"});
    let spec = Container::sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
        .with("/linux/sysctl", sysctl);
    let seen = output(&spec).await;
    assert_eq!(seen, "1\n16384\n");
}

#[tokio::test]
async fn clocks_are_shifted_in_a_time_namespace() {
    let namespaces = json!([{"type": "pid"}, {"type": "mount"}, {"type": "time"}]);
    let spec =
        Container::sh("read own rest < /proc/uptime; echo ${own%.*}; (cut -d. -f1 /proc/uptime); exit 0")
            .with("/hostname", Value::Null)
            .with("/linux/namespaces", namespaces)
            .with("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}}));
    let seen = output(&spec).await;
    let shifted: Vec<_> = seen.lines().map(|line| line.parse::<u64>().unwrap() >= 1_000_000_000).collect();
    // Before Linux 6.3 a program enters the namespace not as it is executed, but its children do: init's own clock is not
    // shifted there. A guest's kernel is newer.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let executed = (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 3);
    assert_eq!(shifted, [executed, true], "{seen}");
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
        let error = refusal(&Container::new(["true"]).with(pointer, value)).await;
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test]
async fn nonsense_is_an_invalid_argument() {
    let guest = Guest::start();
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
