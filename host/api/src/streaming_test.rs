//! Clients over a real ttrpc connection, and a process that is played by the test.

use theca_controller::install::Installation;
use theca_controller::run_dir::RunDir;
use theca_controller::sandbox::{SandboxOptions, Setup, Timeline};
use theca_controller::task::stdio::remote::Remotes;
use theca_proto::containerd::services::streaming::v1::streaming_ttrpc::{self, StreamingClient};
use theca_proto::ttrpc_glue::Caller;
use theca_proto::ttrpc_stream::ClientStream;
use tokio::time::timeout;
use ttrpc::r#async::{Client, Server};

use super::*;
use crate::agent::GrpcConnector;

const PATIENCE: Duration = Duration::from_secs(10);

struct Scene {
    remotes: Remotes,
    address: String,
    _server: Server,
    _root: tempfile::TempDir,
}

impl Scene {
    async fn begin() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = RunDir::new(root.path(), &"tests".parse().unwrap(), &"pod".parse().unwrap());
        folder.create().unwrap();
        let address = format!("unix://{}", folder.keeper_socket().display());
        let (sandbox, _) = Sandbox::begin(Setup {
            folder,
            bundle: root.path().into(),
            options: SandboxOptions::default(),
            installation: Installation::own(),
            scratch: root.path().join("scratch"),
            connector: Arc::new(GrpcConnector),
            timeline: Timeline::begin(),
        });
        let service = streaming_ttrpc::serve(Arc::new(StreamingService::new(sandbox.clone())));
        let mut server = Server::new().bind(&address).unwrap().register_service(service.into_services());
        server.start().await.unwrap();
        Self { remotes: sandbox.remotes().clone(), address, _server: server, _root: root }
    }

    /// A client of the stream `id`, acknowledged.
    async fn client(&self, id: &str) -> ClientSide {
        let connection = Client::connect(&self.address).await.unwrap();
        let stream = StreamingClient::new(Caller::new(connection.clone())).stream().await.unwrap();
        let mut client = ClientSide { stream, _connection: connection };
        client.send(type_url::STREAM_INIT, &StreamInit { id: id.into() }).await;
        client.receive().await.unwrap();
        client
    }
}

struct ClientSide {
    stream: ClientStream<Any, Any>,
    _connection: Client,
}

impl ClientSide {
    async fn send(&self, url: &str, message: &impl Message) {
        let any = Any { type_url: url.into(), value: message.encode_to_vec() };
        self.stream.send(&Framed(any)).await.unwrap();
    }

    async fn receive(&mut self) -> ttrpc::Result<Any> {
        timeout(PATIENCE, self.stream.recv()).await.unwrap().map(|framed| framed.0)
    }

    async fn give_room(&self, update: i32) {
        self.send(type_url::STREAM_WINDOW_UPDATE, &WindowUpdate { update }).await;
    }

    async fn room(&mut self) -> i32 {
        unpack::<WindowUpdate>(&self.receive().await.unwrap(), type_url::STREAM_WINDOW_UPDATE).unwrap().update
    }

    async fn data(&mut self) -> Vec<u8> {
        unpack::<Data>(&self.receive().await.unwrap(), type_url::STREAM_DATA).unwrap().data.into()
    }
}

#[tokio::test]
async fn input_comes_from_a_client_that_was_there_first_and_its_window_opens_as_it_is_taken() {
    let scene = Scene::begin().await;
    let mut client = scene.client("web-stdin").await;
    let (process, mut chunks) = mpsc::channel(1);
    scene.remotes.claim_input("web-stdin", &process).unwrap();
    assert_eq!(client.room().await, WINDOW);
    for number in 0..50_u8 {
        client.send(type_url::STREAM_DATA, &Data { data: vec![number; 1000].into() }).await;
        assert_eq!(chunks.recv().await.unwrap(), vec![number; 1000]);
        assert_eq!(client.room().await, 1000);
    }
    drop(process);
    client.stream.close_send().await.unwrap();
    assert_eq!(timeout(PATIENCE, chunks.recv()).await.unwrap(), None);
}

#[tokio::test]
async fn more_input_than_there_is_room_for_ends_the_stream() {
    let scene = Scene::begin().await;
    let (process, _chunks) = mpsc::channel(1);
    scene.remotes.claim_input("web-stdin", &process).unwrap();
    let mut client = scene.client("web-stdin").await;
    assert_eq!(client.room().await, WINDOW);
    client.send(type_url::STREAM_DATA, &Data { data: vec![0; WINDOW as usize + 1].into() }).await;
    let Err(ttrpc::Error::RpcStatus(status)) = client.receive().await else { panic!("it was taken") };
    assert_eq!(status.code(), Code::RESOURCE_EXHAUSTED);
}

#[tokio::test]
async fn output_keeps_to_the_clients_window_and_ends_with_the_process() {
    let scene = Scene::begin().await;
    let process = scene.remotes.claim_output("web-stdout").unwrap();
    let mut client = scene.client("web-stdout").await;
    process.send(vec![b'x'; 50_000]).await.unwrap();
    client.give_room(10).await;
    assert_eq!(client.data().await.len(), 10);
    client.give_room(64 * 1024).await;
    assert_eq!(client.data().await.len(), CHUNK);
    assert_eq!(client.data().await.len(), 50_000 - 10 - CHUNK);
    drop(process);
    assert!(matches!(client.receive().await, Err(ttrpc::Error::Eof)));
}

#[tokio::test]
async fn a_client_that_comes_again_goes_on_where_the_other_was() {
    let scene = Scene::begin().await;
    let process = scene.remotes.claim_output("web-stdout").unwrap();
    process.send(b"0123456789".to_vec()).await.unwrap();
    let mut lost = scene.client("web-stdout").await;
    lost.give_room(4).await;
    assert_eq!(lost.data().await, b"0123");
    let mut client = scene.client("web-stdout").await;
    client.give_room(1000).await;
    assert_eq!(client.data().await, b"456789");
    let Err(ttrpc::Error::RpcStatus(status)) = lost.receive().await else { panic!("both have it") };
    assert_eq!(status.code(), Code::ABORTED);
    process.send(b"more".to_vec()).await.unwrap();
    assert_eq!(client.data().await, b"more");
}

#[tokio::test]
async fn what_is_no_stream_is_refused() {
    let scene = Scene::begin().await;
    let mut client = scene.client("../web").await;
    let Err(ttrpc::Error::RpcStatus(status)) = client.receive().await else { panic!("it was taken") };
    assert_eq!(status.code(), Code::INVALID_ARGUMENT);
    let mut client = scene.client("web-stdout").await;
    client.send(type_url::STREAM_DATA, &Data { data: Vec::new().into() }).await;
    let Err(ttrpc::Error::RpcStatus(status)) = client.receive().await else { panic!("it was taken") };
    assert_eq!(status.code(), Code::INVALID_ARGUMENT, "a client of an output gives room, not data");
}
