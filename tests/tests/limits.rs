//! What the containers of a sandbox may use together: from its start, changed while its VM runs, and after a restart of thecad.

use std::path::Path;

use prost::Message;
use prost_types::Any;
use theca_proto::runtime::v1::{LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig};
use theca_proto::type_url;
use theca_tests::{Bundle, Theca, Thecad, eventually};
use tonic::Code;

/// Tells again and again what the guest's cgroup of all containers is limited to. Only who sees the agent's files can.
const TELL: &str = "while sleep 0.2; do
    cd /proc/1/root/sys/fs/cgroup/containers; echo $(cat cpu.max memory.max); done";

const MIB: i64 = 1 << 20;

fn pod(cpu_quota: i64, memory_limit_in_bytes: i64) -> Any {
    let resources = LinuxContainerResources {
        cpu_quota,
        memory_limit_in_bytes,
        cpu_period: 100_000,
        ..Default::default()
    };
    let linux = LinuxPodSandboxConfig { resources: Some(resources), ..Default::default() };
    let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
    Any { type_url: type_url::POD_SANDBOX_CONFIG.into(), value: config.encode_to_vec() }
}

#[track_caller]
fn told(output: &Path, limits: &str) {
    eventually(&format!("the guest to say {limits}"), || {
        let text = std::fs::read_to_string(output).unwrap_or_default();
        text.lines().last() == Some(limits)
    });
}

#[test]
fn limits_of_a_pod_hold_in_the_guest_from_its_start_and_change_while_it_runs() {
    let theca = Theca::empty();
    let mut thecad = Thecad::start(&theca);
    let client = thecad.client();
    let output = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    client.create_sandbox_of("pod", pod(50_000, 96 * MIB)).unwrap();
    client.start_sandbox("pod").unwrap();
    client.keep("c", "pod", &Bundle::trusted(&["sh", "-c", TELL]).config).unwrap();
    client.create_to("c", None, output.path()).unwrap();
    client.start("c").unwrap();
    told(output.path(), &format!("50000 100000 {}", 96 * MIB));

    client.resize_sandbox("pod", pod(30_000, 64 * MIB)).unwrap();
    told(output.path(), &format!("30000 100000 {}", 64 * MIB));
    let grown = client.resize_sandbox("pod", pod(0, 4096 * MIB)).unwrap_err();
    assert_eq!(grown.code(), Code::FailedPrecondition, "{grown}");

    drop(client);
    thecad.kill_and_start_again();
    let client = thecad.client();
    let info = client.sandbox_info("pod").unwrap();
    assert_eq!((info["cpu_limit_milli"].as_str(), info["memory_limit_bytes"].as_str()), ("300", "67108864"));
    client.resize_sandbox("pod", pod(-1, -1)).unwrap();
    told(output.path(), "max 100000 max");
    client.shutdown_sandbox("pod").unwrap();
    drop(client);
    thecad.stop();
}
