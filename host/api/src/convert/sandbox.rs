//! What clients ask of sandboxes and are told of them, in today's form and that of 2022.

use std::collections::HashMap;

use prost::Message;
use prost_types::Any;
use theca_controller::node::Error;
use theca_controller::node::sandbox::{
    CreateSandbox, Resources, SandboxMetrics, SandboxStatus, Standing, Started, UpdateSandbox,
};
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::containerd::types::{Metric, Sandbox};
use theca_proto::generations::containerd::services::sandbox::v1 as of_2022;
use theca_proto::runtime::v1::{LinuxContainerResources, PodSandboxConfig};
use theca_proto::theca::options::v1::SandboxOptions;
use theca_proto::type_url;

use super::records::payloads;
use super::time;

const MIB: u64 = 1 << 20;
/// RAM that is added to what a pod's containers may use when its RuntimeClass names no overhead: for the guest itself.
const GUEST_MIB: u64 = 128;

/// What options say.
#[derive(Debug, Default, PartialEq)]
struct Options {
    resources: Resources,
    kernel_args: Vec<String>,
    labels: HashMap<String, String>,
    annotations: HashMap<String, String>,
}

/// A sandbox to create. `rootfs` is not read: it would be a pause container's, and a VM needs none to hold its namespaces.
/// `cpus` are the machine's.
pub fn create(request: today::ControllerCreateRequest, cpus: u32) -> Result<CreateSandbox, Error> {
    let id = request.sandbox_id.parse()?;
    let sandbox = request.sandbox.unwrap_or_default();
    let options = match (request.options, sandbox.runtime.and_then(|runtime| runtime.options)) {
        (Some(any), _) => options(&any, cpus)?,
        // Options of the runtime may be those of a shim, which are none of a sandbox.
        (None, Some(any)) if is_known(&any) => options(&any, cpus)?,
        (None, _) => Options::default(),
    };
    Ok(CreateSandbox {
        id,
        resources: options.resources,
        kernel_args: options.kernel_args,
        labels: options.labels.into_iter().chain(sandbox.labels).collect(),
        annotations: options.annotations.into_iter().chain(request.annotations).collect(),
        netns_path: request.netns_path,
        extensions: payloads(sandbox.extensions),
    })
}

/// A sandbox to create and start, in the form of 2022.
pub fn run(request: of_2022::ControllerStartRequest, cpus: u32) -> Result<CreateSandbox, Error> {
    let of_2022::ControllerStartRequest { sandbox_id, rootfs, options } = request;
    create(today::ControllerCreateRequest { sandbox_id, rootfs, options, ..Default::default() }, cpus)
}

/// What to change of a sandbox: what `fields` name, or labels, extensions and options as far as `sandbox` has any.
pub fn update(sandbox: Option<Sandbox>, fields: &[String], cpus: u32) -> Result<UpdateSandbox, Error> {
    let sandbox = sandbox.ok_or_else(|| Error::Invalid("the request has no sandbox".into()))?;
    let mut update = UpdateSandbox::default();
    let named = |field: &str, present: bool| {
        fields.iter().any(|name| name == field) || (fields.is_empty() && present)
    };
    if let Some(unknown) = fields.iter().find(|field| !UPDATABLE.contains(&field.as_str())) {
        return Err(Error::Invalid(format!(
            "cannot update field {unknown:?} of a sandbox that was created: use {}",
            UPDATABLE.join(", ")
        )));
    }
    let options = sandbox
        .runtime
        .and_then(|runtime| runtime.options)
        .as_ref()
        .map(|any| self::options(any, cpus))
        .transpose()?;
    if named("runtime.options", options.is_some()) {
        update.resources = Some(options.unwrap_or_default().resources);
    }
    if named("labels", !sandbox.labels.is_empty()) {
        update.labels = Some(sandbox.labels.into_iter().collect());
    }
    if named("extensions", !sandbox.extensions.is_empty()) {
        update.extensions = Some(payloads(sandbox.extensions));
    }
    Ok(update)
}

const UPDATABLE: &[&str] = &["labels", "extensions", "runtime.options"];

fn is_known(any: &Any) -> bool {
    [type_url::POD_SANDBOX_CONFIG, type_url::CLIENT_SANDBOX_OPTIONS].contains(&name(any))
}

/// What follows the last slash of a type URL, as protobuf compares them.
fn name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

fn options(any: &Any, cpus: u32) -> Result<Options, Error> {
    match name(any) {
        "" if any.value.is_empty() => Ok(Options::default()),
        type_url::POD_SANDBOX_CONFIG => Ok(pod(decode(any)?, cpus)),
        type_url::CLIENT_SANDBOX_OPTIONS => own(decode(any)?, cpus),
        _ => Err(Error::Invalid(format!(
            "options of type {:?} are not known here: use {} or {}",
            any.type_url,
            type_url::POD_SANDBOX_CONFIG,
            type_url::CLIENT_SANDBOX_OPTIONS
        ))),
    }
}

fn decode<T: Message + Default>(any: &Any) -> Result<T, Error> {
    T::decode(any.value.as_slice())
        .map_err(|error| Error::Invalid(format!("the options {} are malformed: {error}", name(any))))
}

fn own(options: SandboxOptions, cpus: u32) -> Result<Options, Error> {
    if options.vcpus > cpus {
        return Err(Error::Invalid(format!(
            "{} processors were asked for: a sandbox has at most this machine's {cpus}",
            options.vcpus
        )));
    }
    let resources = Resources { vcpus: options.vcpus, memory_mib: options.memory_bytes.div_ceil(MIB) };
    Ok(Options { resources, kernel_args: options.kernel_args, ..Options::default() })
}

/// A pod may be allowed more processors than there are; more than those it cannot use.
fn pod(config: PodSandboxConfig, cpus: u32) -> Options {
    let linux = config.linux.unwrap_or_default();
    let overhead = linux.overhead.unwrap_or_default();
    let mut resources = resources(&linux.resources.unwrap_or_default(), &overhead);
    resources.vcpus = resources.vcpus.min(cpus);
    Options { resources, kernel_args: Vec::new(), labels: config.labels, annotations: config.annotations }
}

/// What the pod's containers may use and what the sandbox costs beyond that. Without a limit: the default.
fn resources(containers: &LinuxContainerResources, overhead: &LinuxContainerResources) -> Resources {
    let bytes =
        |resources: &LinuxContainerResources| u64::try_from(resources.memory_limit_in_bytes).unwrap_or(0);
    let memory_mib = match (bytes(containers), bytes(overhead)) {
        (0, _) => 0,
        (limit, 0) => limit.div_ceil(MIB) + GUEST_MIB,
        (limit, overhead) => limit.saturating_add(overhead).div_ceil(MIB),
    };
    let vcpus = match milli_cpus(containers) {
        0 => 0,
        limit => limit.saturating_add(milli_cpus(overhead)).div_ceil(1000),
    };
    Resources { vcpus: u32::try_from(vcpus).unwrap_or(u32::MAX), memory_mib }
}

fn milli_cpus(resources: &LinuxContainerResources) -> u64 {
    match (u64::try_from(resources.cpu_quota), u64::try_from(resources.cpu_period)) {
        (Ok(quota), Ok(period)) if period > 0 => quota.saturating_mul(1000).div_ceil(period),
        _ => 0,
    }
}

/// A sandbox that was started.
pub fn started(id: String, started: Started) -> today::ControllerStartResponse {
    today::ControllerStartResponse {
        sandbox_id: id,
        pid: started.pid,
        created_at: Some(time::wire(started.created_at)),
        labels: started.labels.into_iter().collect(),
        address: started.address,
        version: started.version,
        spec: None,
    }
}

/// How a sandbox stands. A paused one is ready for Kubernetes, which does not know the word.
pub fn status(status: SandboxStatus) -> today::ControllerStatusResponse {
    let state = match status.standing {
        Standing::Ready | Standing::Paused => "SANDBOX_READY",
        Standing::Created | Standing::Stopped => "SANDBOX_NOTREADY",
    };
    today::ControllerStatusResponse {
        sandbox_id: status.id.to_string(),
        pid: status.pid,
        state: state.into(),
        info: status.info.into_iter().collect(),
        created_at: Some(time::wire(status.created_at)),
        exited_at: status.exit.map(|exit| time::wire(exit.at)),
        extra: None,
        address: status.address,
        version: status.version,
    }
}

/// How a sandbox stands, in the form of 2022.
pub fn status_2022(status: SandboxStatus) -> of_2022::ControllerStatusResponse {
    let state = match status.standing {
        Standing::Created => "created",
        Standing::Ready => "ready",
        Standing::Paused => "paused",
        Standing::Stopped => "stopped",
    };
    of_2022::ControllerStatusResponse {
        id: status.id.to_string(),
        pid: status.pid,
        state: state.into(),
        exit_status: status.exit.map_or(0, |exit| exit.status),
        exited_at: status.exit.map(|exit| time::wire(exit.at)),
        extra: None,
    }
}

/// Counters of a sandbox, as one cgroup would count it: processor time and memory are the VMM's on the host, the guest's
/// included; everything else is what the guest counts for all containers together.
pub fn metrics(id: String, sandbox: SandboxMetrics) -> Metric {
    let mut metrics = super::metrics::metrics(&sandbox.files.into_iter().collect());
    let cpu = metrics.cpu.get_or_insert_default();
    cpu.usage_usec = sandbox.vmm_cpu_usec;
    let memory = metrics.memory.get_or_insert_default();
    memory.usage = sandbox.vmm_resident_bytes;
    memory.max_usage = memory.max_usage.max(memory.usage);
    memory.usage_limit = sandbox.resources.memory_mib.saturating_mul(MIB);
    let data = Any { type_url: type_url::CGROUP_METRICS.into(), value: metrics.encode_to_vec() };
    Metric { timestamp: Some(time::wire(sandbox.at)), id, data: Some(data) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use theca_proto::containerd::types::sandbox::Runtime;
    use theca_proto::io::containerd::cgroups::v2::Metrics;
    use theca_proto::runtime::v1::LinuxPodSandboxConfig;

    use super::*;

    fn any(url: &str, message: &impl Message) -> Any {
        Any { type_url: url.into(), value: message.encode_to_vec() }
    }

    fn request(options: Any) -> today::ControllerCreateRequest {
        today::ControllerCreateRequest {
            sandbox_id: "pod".into(),
            options: Some(options),
            ..Default::default()
        }
    }

    fn limits(memory: i64, quota: i64) -> Option<LinuxContainerResources> {
        Some(LinuxContainerResources {
            memory_limit_in_bytes: memory,
            cpu_quota: quota,
            cpu_period: 100_000,
            ..Default::default()
        })
    }

    fn pod_of(
        containers: Option<LinuxContainerResources>,
        overhead: Option<LinuxContainerResources>,
    ) -> Resources {
        let linux = LinuxPodSandboxConfig { resources: containers, overhead, ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        create(request(any(type_url::POD_SANDBOX_CONFIG, &config)), 8).unwrap().resources
    }

    #[test]
    fn a_pod_is_as_large_as_its_containers_and_its_overhead() {
        let sized = pod_of(limits(512 << 20, 150_000), limits((64 << 20) + 1, 25_000));
        assert_eq!(sized, Resources { vcpus: 2, memory_mib: 577 });
        let sized = pod_of(limits(32 << 20, 50_000), None);
        assert_eq!(sized, Resources { vcpus: 1, memory_mib: 32 + GUEST_MIB });
        assert_eq!(pod_of(None, limits(64 << 20, 25_000)), Resources::default());
        assert_eq!(pod_of(limits(-1, -1), None), Resources::default());
    }

    #[test]
    fn theca_has_options_of_its_own() {
        let own = SandboxOptions { vcpus: 3, memory_bytes: (1 << 30) + 1, kernel_args: vec!["quiet".into()] };
        let created =
            create(request(any("type.googleapis.com/theca.options.v1.SandboxOptions", &own)), 8).unwrap();
        assert_eq!(created.resources, Resources { vcpus: 3, memory_mib: 1025 });
        assert_eq!(created.kernel_args, ["quiet"]);
    }

    #[test]
    fn processors_that_the_machine_lacks_are_refused_to_who_names_them_and_left_out_of_a_pods_limit() {
        let own = SandboxOptions { vcpus: 9, ..Default::default() };
        let error = create(request(any(type_url::CLIENT_SANDBOX_OPTIONS, &own)), 8).unwrap_err().to_string();
        assert!(error.starts_with("9 processors were asked for"), "{error}");
        assert_eq!(pod_of(limits(1 << 30, 6_400_000), None).vcpus, 8);
    }

    #[test]
    fn options_of_a_runtime_count_when_they_are_a_sandboxs() {
        let with = |options: Any| {
            let runtime = Runtime { name: "theca".into(), options: Some(options) };
            let sandbox = Sandbox { runtime: Some(runtime), ..Default::default() };
            let bare = today::ControllerCreateRequest { sandbox_id: "pod".into(), ..Default::default() };
            create(today::ControllerCreateRequest { sandbox: Some(sandbox), ..bare }, 8)
                .unwrap()
                .resources
                .vcpus
        };
        let own = SandboxOptions { vcpus: 3, ..Default::default() };
        assert_eq!(with(any(type_url::CLIENT_SANDBOX_OPTIONS, &own)), 3);
        assert_eq!(with(any("runtimeoptions.v1.Options", &own)), 0);
    }

    #[test]
    fn options_that_are_not_known_are_refused_with_those_that_are() {
        let error =
            create(request(any("example.Options", &SandboxOptions::default())), 8).unwrap_err().to_string();
        assert!(
            error.contains("\"example.Options\"") && error.contains("runtime.v1.PodSandboxConfig"),
            "{error}"
        );
        let malformed = Any { type_url: type_url::POD_SANDBOX_CONFIG.into(), value: b"\xff".to_vec() };
        assert!(create(request(malformed), 8).unwrap_err().to_string().contains("malformed"));
    }

    #[test]
    fn labels_are_the_sandboxs_before_the_pods() {
        let words = |value: &str| HashMap::from([("team".to_owned(), value.to_owned())]);
        let pod = PodSandboxConfig { labels: words("pod"), annotations: words("pod"), ..Default::default() };
        let mut request = request(any(type_url::POD_SANDBOX_CONFIG, &pod));
        request.sandbox = Some(Sandbox { labels: words("sandbox"), ..Default::default() });
        let created = create(request, 8).unwrap();
        assert_eq!(
            (created.labels["team"].as_str(), created.annotations["team"].as_str()),
            ("sandbox", "pod")
        );
    }

    #[test]
    fn an_update_changes_what_its_fields_name() {
        let labels = HashMap::from([("a".to_owned(), "b".to_owned())]);
        let sandbox = Sandbox { labels, ..Default::default() };
        let all = update(Some(sandbox.clone()), &[], 8).unwrap();
        assert_eq!((all.labels.unwrap().len(), all.extensions, all.resources), (1, None, None));
        let named = update(Some(sandbox.clone()), &["extensions".into()], 8).unwrap();
        assert_eq!((named.labels, named.extensions.unwrap().len()), (None, 0));
        let error = update(Some(sandbox), &["sandbox_id".into()], 8).unwrap_err().to_string();
        assert!(error.contains("\"sandbox_id\"") && error.contains("labels, extensions"), "{error}");
        assert!(update(None, &[], 8).is_err());
    }

    #[test]
    fn a_sandbox_costs_what_its_vmm_does_and_runs_what_its_containers_do() {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let metric = metrics(
            "pod".into(),
            SandboxMetrics {
                at: SystemTime::now(),
                containers: Vec::new(),
                vmm_resident_bytes: 77,
                vmm_cpu_usec: 99,
                keeper_resident_bytes: 0,
                guest_used_bytes: 0,
                agent_resident_bytes: 0,
                files: [file("pids.current", "5"), file("cpu.stat", "usage_usec 40\nuser_usec 30\n")].into(),
                resources: Resources { vcpus: 1, memory_mib: 256 },
            },
        );
        let metrics = Metrics::decode(metric.data.unwrap().value.as_slice()).unwrap();
        assert_eq!(metrics.pids.unwrap().current, 5);
        let cpu = metrics.cpu.unwrap();
        assert_eq!((cpu.usage_usec, cpu.user_usec), (99, 30));
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.usage, memory.usage_limit), (77, 256 << 20));
    }
}
