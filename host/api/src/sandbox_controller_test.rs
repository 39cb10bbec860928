//! The controller in both of its forms, and the two stores.

use std::collections::HashMap;

use theca_controller::node::testing::Bench;
use theca_proto::containerd::services::containers::v1 as containers;
use theca_proto::containerd::services::containers::v1::containers_server::Containers;
use theca_proto::containerd::services::sandbox::v1 as today;
use theca_proto::containerd::services::sandbox::v1::store_server::Store;
use theca_proto::containerd::types::Sandbox;
use theca_proto::generations::containerd::services::containers::v1 as of_2017;
use theca_proto::generations::containerd::services::sandbox::v1 as of_2022;
use tonic::{Code, Status};

use super::*;
use crate::containers::ContainerStore;
use crate::containers_2017::ContainerStore2017;
use crate::sandbox_controller_2022::SandboxController2022;
use crate::sandbox_store::SandboxStore;

fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "tests".parse().unwrap());
    request
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
    assert!(refusal.message().contains(words), "{refusal}");
}

fn named(id: &str) -> String {
    id.to_owned()
}

#[tokio::test]
async fn a_sandbox_lives_from_create_to_shutdown() {
    let bench = Bench::new().await;
    let controller = SandboxController::new(&bench.node);
    let labels = HashMap::from([(named("team"), named("blue"))]);
    let create = ControllerCreateRequest {
        sandbox_id: named("pod"),
        sandbox: Some(Sandbox { labels: labels.clone(), ..Default::default() }),
        ..Default::default()
    };
    controller.create(call(create.clone())).await.unwrap();
    refused(controller.create(call(create)).await, Code::AlreadyExists, "pod");
    let status = || call(ControllerStatusRequest { sandbox_id: named("pod"), ..Default::default() });
    assert_eq!(controller.status(status()).await.unwrap().into_inner().state, "SANDBOX_NOTREADY");

    let start = ControllerStartRequest { sandbox_id: named("pod"), ..Default::default() };
    let started = controller.start(call(start)).await.unwrap().into_inner();
    assert_eq!((started.version, started.labels), (3, labels));
    assert!(started.address.starts_with("ttrpc+unix://"), "{}", started.address);
    let ready = controller.status(status()).await.unwrap().into_inner();
    assert_eq!((ready.state.as_str(), ready.pid, ready.exited_at), ("SANDBOX_READY", started.pid, None));
    let platform = ControllerPlatformRequest { sandbox_id: named("pod"), ..Default::default() };
    assert_eq!(controller.platform(call(platform)).await.unwrap().into_inner().platform.unwrap().os, "linux");
    let metrics = ControllerMetricsRequest { sandbox_id: named("pod"), ..Default::default() };
    let metrics = controller.metrics(call(metrics)).await.unwrap().into_inner().metrics.unwrap();
    assert_eq!(
        (metrics.id, metrics.data.unwrap().type_url.as_str()),
        (named("pod"), "io.containerd.cgroups.v2.Metrics")
    );

    let wait = || call(ControllerWaitRequest { sandbox_id: named("pod"), ..Default::default() });
    let stop = ControllerStopRequest { sandbox_id: named("pod"), timeout_secs: 1, ..Default::default() };
    let (waited, stopped) = tokio::join!(controller.wait(wait()), controller.stop(call(stop)));
    stopped.unwrap();
    let again = controller.wait(wait()).await.unwrap().into_inner();
    assert_eq!(waited.unwrap().into_inner(), again);
    let shutdown = || call(ControllerShutdownRequest { sandbox_id: named("pod"), ..Default::default() });
    controller.shutdown(shutdown()).await.unwrap();
    controller.shutdown(shutdown()).await.unwrap();
    refused(controller.status(status()).await, Code::NotFound, "pod");
}

#[tokio::test]
async fn an_update_changes_labels_and_refuses_what_it_does_not_know() {
    let bench = Bench::new().await;
    let controller = SandboxController::new(&bench.node);
    bench.sandbox("pod").await;
    let sandbox = Some(Sandbox { labels: HashMap::from([(named("a"), named("b"))]), ..Default::default() });
    let update = |fields: &[&str]| ControllerUpdateRequest {
        sandbox_id: named("pod"),
        sandbox: sandbox.clone(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        ..Default::default()
    };
    controller.update(call(update(&["labels"]))).await.unwrap();
    let status = bench.node.sandbox_status(&bench.namespace, &"pod".parse().unwrap(), false).await.unwrap();
    assert_eq!(status.labels.len(), 1);
    refused(controller.update(call(update(&["spec"]))).await, Code::InvalidArgument, "spec");
}

#[tokio::test]
async fn the_form_of_2022_starts_pauses_and_pings() {
    use of_2022::controller_server::Controller;

    let bench = Bench::new().await;
    let controller = SandboxController2022::new(&bench.node);
    let start = || call(of_2022::ControllerStartRequest { sandbox_id: named("pod"), ..Default::default() });
    let started = controller.start(start()).await.unwrap().into_inner();
    assert_eq!(started.sandbox_id, "pod");
    refused(controller.start(start()).await, Code::AlreadyExists, "pod");
    let state = || async {
        let status = call(of_2022::ControllerStatusRequest { sandbox_id: named("pod") });
        controller.status(status).await.unwrap().into_inner().state
    };
    assert_eq!(state().await, "ready");
    let ping = || call(of_2022::ControllerPingRequest { sandbox_id: named("pod") });
    controller.ping(ping()).await.unwrap();
    controller.pause(call(of_2022::ControllerPauseRequest { sandbox_id: named("pod") })).await.unwrap();
    assert_eq!(state().await, "paused");
    controller.resume(call(of_2022::ControllerResumeRequest { sandbox_id: named("pod") })).await.unwrap();
    assert_eq!(state().await, "ready");
    let wait = call(of_2022::ControllerWaitRequest { sandbox_id: named("pod") });
    let shutdown = call(of_2022::ControllerShutdownRequest { sandbox_id: named("pod"), timeout_secs: 1 });
    let (exit, over) = tokio::join!(controller.wait(wait), controller.shutdown(shutdown));
    over.unwrap();
    assert_eq!(exit.unwrap().into_inner().exit_status, 0);
    refused(controller.ping(ping()).await, Code::NotFound, "pod");
}

#[tokio::test]
async fn a_sandbox_that_is_kept_in_one_form_is_found_in_the_other() {
    let bench = Bench::new().await;
    let store = SandboxStore::new(&bench.node);
    let sandbox = Some(Sandbox { sandbox_id: named("pod"), ..Default::default() });
    let create = || call(today::StoreCreateRequest { sandbox: sandbox.clone() });
    store.create(create()).await.unwrap();
    refused(store.create(create()).await, Code::AlreadyExists, "pod");
    let older = call(of_2022::StoreGetRequest { sandbox_id: named("pod") });
    let found = of_2022::store_server::Store::get(&store, older).await.unwrap().into_inner().sandbox.unwrap();
    assert_eq!(found.sandbox_id, "pod");
    let filters = vec![named("id==pod")];
    let listed =
        Store::list(&store, call(today::StoreListRequest { filters })).await.unwrap().into_inner().list;
    assert_eq!(listed, [found]);
    Store::delete(&store, call(today::StoreDeleteRequest { sandbox_id: named("pod") })).await.unwrap();
    let gone = Store::get(&store, call(today::StoreGetRequest { sandbox_id: named("pod") })).await;
    refused(gone, Code::NotFound, "pod");
}

#[tokio::test]
async fn a_container_that_is_kept_in_one_form_is_found_in_the_other() {
    let bench = Bench::new().await;
    let (store, older) = (ContainerStore::new(&bench.node), ContainerStore2017::new(&bench.node));
    let container =
        Some(containers::Container { id: named("web"), snapshot_key: named("root"), ..Default::default() });
    let create = || call(containers::CreateContainerRequest { container: container.clone() });
    store.create(create()).await.unwrap();
    refused(store.create(create()).await, Code::AlreadyExists, "web");
    let get = call(of_2017::GetContainerRequest { id: named("web") });
    let found = of_2017::containers_server::Containers::get(&older, get).await.unwrap().into_inner();
    assert_eq!(found.container.unwrap().rootfs, "root");
    let delete = call(of_2017::DeleteContainerRequest { id: named("web") });
    of_2017::containers_server::Containers::delete(&older, delete).await.unwrap();
    let gone = store.get(call(containers::GetContainerRequest { id: named("web") })).await;
    refused(gone, Code::NotFound, "web");
}

#[tokio::test]
async fn an_update_of_options_limits_what_runs_and_refuses_what_cannot_change() {
    use prost::Message;
    use theca_proto::containerd::types::sandbox::Runtime;
    use theca_proto::runtime::v1::{LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig};
    use theca_proto::theca::options::v1::SandboxOptions;
    use theca_proto::type_url;

    let bench = Bench::new().await;
    let controller = SandboxController::new(&bench.node);
    bench.sandbox("pod").await;
    let options = |type_url: &str, value: Vec<u8>| ControllerUpdateRequest {
        sandbox_id: named("pod"),
        sandbox: Some(Sandbox {
            runtime: Some(Runtime {
                name: named("theca"),
                options: Some(prost_types::Any { type_url: named(type_url), value }),
            }),
            ..Default::default()
        }),
        fields: vec![named("runtime.options")],
        ..Default::default()
    };
    let pod = |cpu_quota, memory_limit_in_bytes| {
        let resources = LinuxContainerResources {
            cpu_quota,
            memory_limit_in_bytes,
            cpu_period: 100_000,
            ..Default::default()
        };
        let linux = LinuxPodSandboxConfig { resources: Some(resources), ..Default::default() };
        let config = PodSandboxConfig { linux: Some(linux), ..Default::default() };
        call(options(type_url::POD_SANDBOX_CONFIG, config.encode_to_vec()))
    };
    controller.update(pod(70_000, 200 << 20)).await.unwrap();
    let status = ControllerStatusRequest { sandbox_id: named("pod"), verbose: true, ..Default::default() };
    let info = controller.status(call(status)).await.unwrap().into_inner().info;
    assert_eq!((info["cpu_limit_milli"].as_str(), info["memory_limit_bytes"].as_str()), ("700", "209715200"));
    refused(controller.update(pod(0, 300 << 20)).await, Code::FailedPrecondition, "does not become larger");
    let own = SandboxOptions { kernel_args: vec![named("quiet")], ..Default::default() };
    let own = options(type_url::CLIENT_SANDBOX_OPTIONS, own.encode_to_vec());
    refused(controller.update(call(own)).await, Code::InvalidArgument, "kernel_args");
}
