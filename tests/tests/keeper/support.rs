//! A keeper as containerd starts it, and connections to it and to its guest.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use prost::Message;
use prost_types::Any;
use theca_proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use theca_proto::containerd::services::events::ttrpc::v1::events_ttrpc::{self, Events};
use theca_proto::containerd::services::streaming::v1::StreamInit;
use theca_proto::containerd::services::streaming::v1::streaming_ttrpc::StreamingClient;
use theca_proto::containerd::task::v2;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::containerd::types::transfer::{Data, WindowUpdate};
use theca_proto::containerd::v1::services::shim::shim_client::ShimClient;
use theca_proto::theca::keeper::v1::keeper_ttrpc::KeeperClient;
use theca_proto::theca::keeper::v1::{OpenShimRequest, SandboxOptions};
use theca_proto::ttrpc_glue::{Answer, Caller};
use theca_proto::ttrpc_stream::{ClientStream, Framed};
use theca_proto::{SHIM_CONTAINER, type_url};
use theca_tests::{Theca, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use ttrpc::r#async::{Client, Server};

/// Long, because the test host is a machine in software.
pub const PATIENCE: Duration = Duration::from_secs(120);

type Addressed = fn(Request<()>) -> Result<Request<()>, tonic::Status>;
/// The Shim of the container `web`, wherever it is served.
pub type Shim = ShimClient<InterceptedService<Channel, Addressed>>;

/// Topics of the events that a keeper forwards.
#[derive(Clone, Default)]
pub struct Forwarded(Arc<Mutex<Vec<String>>>);

impl Forwarded {
    pub fn topics(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Events for Forwarded {
    async fn forward(&self, request: ForwardRequest) -> Answer<()> {
        self.0.lock().unwrap().extend(request.envelope.map(|envelope| envelope.topic));
        Ok(())
    }
}

/// A sandbox that lasts until it is told to end.
pub struct Sandbox {
    pub task: TaskClient,
    pub keeper: KeeperClient,
    pub forwarded: Forwarded,
    pub folder: PathBuf,
    caller: Caller,
    _containerd: (Server, tempfile::TempDir),
    // Last: it asserts that nothing is left.
    _theca: Theca,
}

impl Sandbox {
    /// Starts one in the folder `bundle`.
    pub async fn start(bundle: &Path) -> Self {
        let theca = Theca::empty();
        let containerds = tempfile::tempdir_in("/run").unwrap();
        let events = containerds.path().join("events.sock");
        let forwarded = Forwarded::default();
        let service = events_ttrpc::serve(Arc::new(forwarded.clone())).into_services();
        let address = format!("unix://{}", events.display());
        let mut containerd = Server::new().bind(&address).unwrap().register_service(service);
        containerd.start().await.unwrap();

        let options = SandboxOptions { hold: true, memory_mib: 192, ..Default::default() };
        let options = Any { type_url: type_url::SANDBOX_OPTIONS.into(), value: options.encode_to_vec() };
        let mut start = Command::new("containerd-shim-theca-v2")
            .args(["-namespace", "default", "-id", "pod", "start"])
            .env("THECA_STATE", theca.state())
            .env("THECA_ROOT", theca.root())
            .env("TTRPC_ADDRESS", &events)
            .current_dir(bundle)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        start.stdin.take().unwrap().write_all(&options.encode_to_vec()).unwrap();
        assert!(start.wait().unwrap().success());
        let folder = theca.state().join("default/pod");
        let address = format!("unix://{}", folder.join("keeper.sock").display());
        let caller = Caller::new(Client::connect(&address).await.unwrap());
        let (task, keeper) = (TaskClient::new(caller.clone()), KeeperClient::new(caller.clone()));
        Self {
            task,
            keeper,
            forwarded,
            folder,
            caller,
            _containerd: (containerd, containerds),
            _theca: theca,
        }
    }

    /// The task API under the name that it had before its third version.
    pub fn older_task(&self) -> v2::task_ttrpc::TaskClient {
        v2::task_ttrpc::TaskClient::new(self.caller.clone())
    }

    /// The Shim of `web` that the keeper serves.
    pub async fn host_shim(&self) -> Shim {
        let opened = self.keeper.open_shim(OpenShimRequest { id: "web".into() }).await.unwrap();
        let path = opened.address.strip_prefix("unix://").unwrap();
        shim(UnixStream::connect(path).await.unwrap()).await
    }

    /// The Shim of `web` that the agent serves.
    pub async fn guest_shim(&self) -> Shim {
        let mut stream = UnixStream::connect(self.folder.join("vsock.sock")).await.unwrap();
        stream.write_all(b"CONNECT 1024\n").await.unwrap();
        let mut answer = Vec::new();
        while answer.last() != Some(&b'\n') {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"OK "), "{answer:?}");
        shim(stream).await
    }

    /// A client of the stream `id`.
    pub async fn stream(&self, id: &str) -> Stream {
        let stream = StreamingClient::new(self.caller.clone()).stream().await.unwrap();
        let mut stream = Stream(stream);
        stream.send(type_url::STREAM_INIT, &StreamInit { id: id.into() }).await;
        stream.receive().await.unwrap();
        stream
    }

    /// `VmRSS` of the keeper in KiB.
    pub fn keeper_kib(&self, pid: u32) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits until the keeper has forwarded an event on this topic.
    pub fn wait_for_topic(&self, topic: &str) {
        wait_for(topic, || self.forwarded.topics().iter().any(|told| told == topic).then_some(()));
    }
}

async fn shim(stream: UnixStream) -> Shim {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("the connection was lost"));
        async move { stream }
    });
    let channel = Endpoint::from_static("http://shim").connect_with_connector(connector).await.unwrap();
    let address: Addressed = |mut request| {
        request.metadata_mut().insert(SHIM_CONTAINER, "web".parse().unwrap());
        Ok(request)
    };
    ShimClient::with_interceptor(channel, address)
}

/// A stream of containerd's streaming service.
pub struct Stream(ClientStream<Any, Any>);

impl Stream {
    pub async fn send(&self, url: &str, message: &impl Message) {
        let any = Any { type_url: url.into(), value: message.encode_to_vec() };
        self.0.send(&Framed(any)).await.unwrap();
    }

    pub async fn give_room(&self, update: i32) {
        self.send(type_url::STREAM_WINDOW_UPDATE, &WindowUpdate { update }).await;
    }

    pub async fn close(&self) {
        self.0.close_send().await.unwrap();
    }

    pub async fn receive(&mut self) -> ttrpc::Result<Any> {
        timeout(PATIENCE, self.0.recv()).await.unwrap().map(|framed| framed.0)
    }

    /// Sends input as the window allows.
    pub async fn write(&mut self, bytes: &[u8]) {
        let mut room = 0;
        for piece in bytes.chunks(32 * 1024) {
            while room < piece.len() {
                let update = WindowUpdate::decode(self.receive().await.unwrap().value.as_slice()).unwrap();
                room += usize::try_from(update.update).unwrap();
            }
            room -= piece.len();
            self.send(type_url::STREAM_DATA, &Data { data: piece.to_vec().into() }).await;
        }
    }

    /// Reads so many bytes of output.
    pub async fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            self.give_room(i32::try_from((length - bytes.len()).min(32 * 1024)).unwrap()).await;
            let wanted = bytes.len() + (length - bytes.len()).min(32 * 1024);
            while bytes.len() < wanted {
                let data = Data::decode(self.receive().await.unwrap().value.as_slice()).unwrap();
                bytes.extend_from_slice(&data.data);
            }
        }
        bytes
    }
}
