//! Both endpoints as a client meets them: HTTP requests in, over a node whose keepers are values.

use std::time::Duration;

use futures_util::stream;
use http::{Request, Response, Uri};
use prost::Message;
use prost_types::FileDescriptorSet;
use theca_controller::node::keeper::{Keeper, NewTask};
use theca_controller::node::sandbox::Standing;
use theca_controller::node::testing::{Bench, sandbox};
use theca_controller::node::values::Io;
use theca_proto::containerd::services::sandbox::v1::ControllerStartRequest;
use theca_proto::containerd::services::sandbox::v1::controller_client::ControllerClient;
use theca_proto::containerd::services::tasks::v1::ListProcessesRequest;
use theca_proto::containerd::services::tasks::v1::tasks_server::Tasks;
use theca_proto::containerd::v1 as wire;
use theca_proto::containerd::v1::execution_service_server::ExecutionService;
use theca_proto::types::StateRequest;
use theca_proto::types::api_server::Api;
use theca_proto::unix_grpc::Connection;
use theca_proto::{descriptors, grpc_channel};
use tokio::net::{UnixListener, UnixStream};
use tonic::Code;
use tonic::body::Body;
use tonic::transport::Server;
use tower::ServiceExt;

use super::*;
use crate::call::Answer;

/// A call of `method`, whose message is announced to have `length` bytes, and has `sent`.
fn call(method: &str, length: u32, sent: &str) -> Request<Body> {
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(sent.bytes());
    Request::post(method)
        .header("content-type", "application/grpc")
        .header("containerd-namespace", "tests")
        .body(Body::new(String::from_utf8(frame).unwrap()))
        .unwrap()
}

/// The code that an answer's headers have; `None` while it is still to come.
fn code<B>(answer: &Response<B>) -> Option<Code> {
    let status = answer.headers().get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// Every method of the endpoint that `set` describes.
fn methods(set: &[u8]) -> Vec<String> {
    let files = FileDescriptorSet::decode(set).unwrap().file;
    let of_file = |file: prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let service_name = format!("{package}.{}", service.name());
            service.method.into_iter().map(move |method| format!("/{service_name}/{}", method.name()))
        })
    };
    files.into_iter().flat_map(of_file).collect()
}

#[tokio::test]
async fn every_method_of_the_definitions_is_served_at_its_endpoint() {
    let bench = Bench::new().await;
    let endpoints =
        [(today(&bench.node), descriptors::TODAY), (generations(&bench.node), descriptors::GENERATIONS)];
    for (routes, set) in endpoints {
        let methods = methods(set);
        assert!(methods.len() > 45, "{}", methods.len());
        for method in methods {
            let answer = routes.clone().oneshot(call(&method, 0, "")).await.unwrap();
            let unsupported = method.contains("Checkpoint");
            assert_eq!(code(&answer) == Some(Code::Unimplemented), unsupported, "{method}");
        }
    }
}

#[tokio::test]
async fn what_nobody_defined_is_unimplemented() {
    let bench = Bench::new().await;
    for method in ["/containerd.services.tasks.v1.Tasks/Nothing", "/example.Nothing/Nothing"] {
        let answer = today(&bench.node).oneshot(call(method, 0, "")).await.unwrap();
        assert_eq!(code(&answer), Some(Code::Unimplemented), "{method}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_before_its_bytes_have_come() {
    let bench = Bench::new().await;
    for method in methods(descriptors::TODAY) {
        let announced = call(&method, 64 << 20, "\x0a");
        let answer = today(&bench.node).oneshot(announced).await.unwrap();
        assert_eq!(code(&answer), Some(Code::ResourceExhausted), "{method}");
        let text = answer.headers()["grpc-message"].to_str().unwrap();
        assert_eq!(text, "the message is too large: at most 16 MiB are taken");
    }
}

/// A request in the tests' namespace.
fn of<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "tests".parse().unwrap());
    request
}

fn too_long<T: std::fmt::Debug>(answer: Answer<T>) {
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("the answer would have more than 16 MiB"), "{refused}");
}

#[tokio::test]
async fn a_list_that_is_too_long_says_so_whatever_it_lists() {
    let bench = Bench::new().await;
    bench.sandbox("pod").await;
    let (keeper, id) = (bench.keeper("pod"), "web".to_owned());
    let web = bench.running("web", Some("pod")).await;
    let (api, tasks) = (Api2015::new(&bench.node), TaskService::new(&bench.node));
    let execution = Execution::new(&bench.node);
    let processes_of = |container_id: &str| wire::ListProcessesRequest { container_id: container_id.into() };
    api.state(of(StateRequest {})).await.unwrap();
    execution.list_processes(of(processes_of("web"))).await.unwrap();
    let spec = format!(r#"{{"args":["{}"]}}"#, "x".repeat(6 << 20)).into_bytes();
    for exec in ["a", "b", "c"] {
        let exec = exec.parse().unwrap();
        keeper.exec(&web, &exec, spec.clone(), Io::default(), false).await.unwrap();
        keeper.start(&web, Some(&exec)).await.unwrap();
    }
    too_long(api.state(of(StateRequest {})).await);
    too_long(execution.list_processes(of(processes_of("web"))).await);
    too_long(tasks.list_processes(of(ListProcessesRequest { container_id: id })).await);

    let containers = || of(wire::ListContainersRequest::default());
    execution.list_containers(containers()).await.unwrap();
    for id in ["d", "e", "f"] {
        let (container, bundle) = (id.parse().unwrap(), "x".repeat(6 << 20).into());
        let (rootfs, io) = (Vec::new(), Io::default());
        keeper.create(NewTask { container, bundle, rootfs, io, options: None }).await.unwrap();
    }
    too_long(execution.list_containers(containers()).await);
}

/// How a client goes before the answer.
#[derive(Clone, Copy, Debug)]
enum Goes {
    Cancels,
    HangsUp,
    Deadline,
}

#[tokio::test]
async fn a_start_whose_client_goes_before_the_answer_is_undone() {
    let bench = Bench::new().await;
    let socket = tempfile::tempdir().unwrap();
    let socket = socket.path().join("thecad.sock");
    let connections = stream::unfold(UnixListener::bind(&socket).unwrap(), |listener| async {
        let (stream, _) = listener.accept().await.unwrap();
        Some((Ok::<_, std::io::Error>(Connection::new(stream)), listener))
    });
    let server = Server::builder().add_routes(today(&bench.node));
    tokio::spawn(server.serve_with_incoming(connections));
    let pod = "pod".parse().unwrap();
    bench.node.create_sandbox(&bench.namespace, sandbox("pod")).await.unwrap();
    bench.keepers.broken.lock().unwrap().insert("slow-ready");
    for goes in [Goes::Cancels, Goes::HangsUp, Goes::Deadline] {
        let channel = grpc_channel::open(UnixStream::connect(&socket).await.unwrap()).await.unwrap();
        let mut client = ControllerClient::with_origin(channel.clone(), Uri::from_static("http://thecad"));
        let mut request = of(ControllerStartRequest { sandbox_id: "pod".into(), ..Default::default() });
        if matches!(goes, Goes::Deadline) {
            request.set_timeout(Duration::from_millis(300));
        }
        let mut start = Box::pin(client.start(request));
        let boots = async {
            while bench.keepers.count() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = &mut start => panic!("{answer:?}"),
            () = boots => {}
        }
        match goes {
            Goes::Deadline => assert_eq!(start.await.unwrap_err().code(), Code::Cancelled),
            Goes::Cancels => drop(start),
            Goes::HangsUp => {
                drop(start);
                drop((client, channel));
            }
        }
        let undone = async {
            while bench.keepers.count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), undone).await.unwrap();
        let status = bench.node.sandbox_status(&bench.namespace, &pod, false).await.unwrap();
        assert_eq!(status.standing, Standing::Created, "{goes:?}");
    }
}
