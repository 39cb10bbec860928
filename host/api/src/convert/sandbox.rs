//! What clients ask of sandboxes and are told of them, in today's form and that of 2022.

use prost::Message;
use prost_types::Any;
use theca_controller::node::Error;
use theca_controller::node::sandbox::{
    CreateSandbox, SandboxMetrics, SandboxStatus, Standing, Started, UpdateSandbox,
};
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::containerd::types::{Metric, Sandbox};
use theca_proto::generations::containerd::services::sandbox::v1 as of_2022;
use theca_proto::type_url;

use super::records::payloads;
use super::{sandbox_options as options, time};

const MIB: u64 = 1 << 20;

/// A sandbox to create. `rootfs` is not read: it would be a pause container's, and a VM needs none to hold its namespaces.
/// `cpus` are the machine's.
pub fn create(request: today::ControllerCreateRequest, cpus: u32) -> Result<CreateSandbox, Error> {
    let id = request.sandbox_id.parse()?;
    let sandbox = request.sandbox.unwrap_or_default();
    let options = match (request.options, sandbox.runtime.and_then(|runtime| runtime.options)) {
        (Some(any), _) => options::read(&any, cpus)?,
        // Options of the runtime may be those of a shim, which are none of a sandbox.
        (None, Some(any)) if options::is_known(&any) => options::read(&any, cpus)?,
        (None, _) => Default::default(),
    };
    Ok(CreateSandbox {
        id,
        resources: options.fresh(),
        kernel_args: options.kernel_args.unwrap_or_default(),
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
    let named = |field: &str, present: bool| {
        fields.iter().any(|name| name == field) || (fields.is_empty() && present)
    };
    if let Some(unknown) = fields.iter().find(|field| !UPDATABLE.contains(&field.as_str())) {
        return Err(Error::Invalid(format!(
            "cannot update field {unknown:?} of a sandbox that was created: use {}",
            UPDATABLE.join(", ")
        )));
    }
    let any = sandbox.runtime.and_then(|runtime| runtime.options);
    // Whoever sends the whole record sends a shim's options along, as to Create.
    let any = any.filter(|any| !fields.is_empty() || options::is_known(any));
    let mut update = UpdateSandbox::default();
    if named("runtime.options", any.is_some()) {
        let options = any.as_ref().map(|any| options::read(any, cpus)).transpose()?.unwrap_or_default();
        update.resources = Some(options.resize());
        update.kernel_args = options.kernel_args;
        update.more_labels = options.labels.into_iter().collect();
        update.more_annotations = options.annotations.into_iter().collect();
    }
    if named("labels", !sandbox.labels.is_empty()) {
        update.more_labels.retain(|key, _| !sandbox.labels.contains_key(key));
        update.labels = Some(sandbox.labels.into_iter().collect());
    }
    if named("extensions", !sandbox.extensions.is_empty()) {
        update.extensions = Some(payloads(sandbox.extensions));
    }
    Ok(update)
}

const UPDATABLE: &[&str] = &["labels", "extensions", "runtime.options"];

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
    use std::collections::HashMap;
    use std::time::SystemTime;

    use theca_controller::node::sandbox::Resources;

    use theca_proto::containerd::types::sandbox::Runtime;
    use theca_proto::io::containerd::cgroups::v2::Metrics;
    use theca_proto::runtime::v1::PodSandboxConfig;
    use theca_proto::theca::options::v1::SandboxOptions;

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
    fn an_update_takes_labels_of_options_along_and_a_shims_options_only_from_who_names_them() {
        let words = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
        let pod = PodSandboxConfig {
            labels: words("a", "pod").into_iter().chain(words("b", "pod")).collect(),
            annotations: words("c", "pod"),
            ..Default::default()
        };
        let with = |options: Any| Sandbox {
            runtime: Some(Runtime { name: "theca".into(), options: Some(options) }),
            labels: words("a", "sandbox"),
            ..Default::default()
        };
        let sandbox = with(any(type_url::POD_SANDBOX_CONFIG, &pod));
        let both = update(Some(sandbox.clone()), &[], 8).unwrap();
        assert_eq!(both.labels.unwrap()["a"], "sandbox");
        assert_eq!(both.more_labels.keys().collect::<Vec<_>>(), ["b"]);
        let named = update(Some(sandbox), &["runtime.options".into()], 8).unwrap();
        assert_eq!((named.labels, named.more_labels.len(), named.more_annotations.len()), (None, 2, 1));
        let own = SandboxOptions { kernel_args: vec!["quiet".into()], ..Default::default() };
        let own = update(Some(with(any(type_url::CLIENT_SANDBOX_OPTIONS, &own))), &[], 8).unwrap();
        assert_eq!(own.kernel_args.unwrap(), ["quiet"]);
        let foreign = with(any("runtimeoptions.v1.Options", &SandboxOptions::default()));
        assert_eq!(update(Some(foreign.clone()), &[], 8).unwrap().resources, None);
        assert!(update(Some(foreign), &["runtime.options".into()], 8).is_err());
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
                resources: Resources { vcpus: 1, memory_mib: 256, ..Resources::default() },
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
