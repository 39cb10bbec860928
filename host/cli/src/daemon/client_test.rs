//! thecad's client against a thecad that has containers and nothing else.

use std::path::Path;
use std::pin::Pin;

use containers::containers_server::{Containers, ContainersServer};
use theca_proto::unix_grpc::Connection;
use tokio::net::UnixListener;
use tonic::codegen::tokio_stream::{Stream, iter, once};

use super::*;

/// Records that one message cannot hold.
struct Many;

type Answer<T> = Result<Response<T>, Status>;

fn records() -> Vec<containers::Container> {
    let record = |number: usize| containers::Container {
        id: format!("c{number}"),
        sandbox: format!("s{number}"),
        image: "x".repeat(1 << 20),
        ..Default::default()
    };
    (0..5).map(record).collect()
}

#[tonic::async_trait]
impl Containers for Many {
    type ListStreamStream =
        Pin<Box<dyn Stream<Item = Result<containers::ListContainerMessage, Status>> + Send>>;

    async fn list(
        &self,
        _: Request<containers::ListContainersRequest>,
    ) -> Answer<containers::ListContainersResponse> {
        Ok(Response::new(containers::ListContainersResponse { containers: records() }))
    }

    async fn list_stream(
        &self,
        _: Request<containers::ListContainersRequest>,
    ) -> Answer<Self::ListStreamStream> {
        let message = |record| Ok(containers::ListContainerMessage { container: Some(record) });
        Ok(Response::new(Box::pin(iter(records().into_iter().map(message)))))
    }

    async fn get(
        &self,
        _: Request<containers::GetContainerRequest>,
    ) -> Answer<containers::GetContainerResponse> {
        Err(Status::unimplemented("get"))
    }

    async fn create(
        &self,
        _: Request<containers::CreateContainerRequest>,
    ) -> Answer<containers::CreateContainerResponse> {
        Err(Status::unimplemented("create"))
    }

    async fn update(
        &self,
        _: Request<containers::UpdateContainerRequest>,
    ) -> Answer<containers::UpdateContainerResponse> {
        Err(Status::unimplemented("update"))
    }

    async fn delete(&self, _: Request<containers::DeleteContainerRequest>) -> Answer<()> {
        Err(Status::unimplemented("delete"))
    }
}

async fn daemon(socket: &Path) -> Daemon {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let (accepted, _) = listener.accept().await.unwrap();
        let incoming = once(Ok::<_, std::io::Error>(Connection::new(accepted)));
        let server = tonic::transport::Server::builder();
        server.serve_with_incoming(ContainersServer::new(Many), incoming).await
    });
    Daemon::connect(socket, "default").await.unwrap()
}

#[tokio::test]
async fn containers_are_listed_however_much_their_records_hold() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = daemon(&folder.path().join("s")).await;
    let found = daemon.of_containers(Vec::new(), |container| container.sandbox).await.unwrap();
    assert_eq!(found, ["s0", "s1", "s2", "s3", "s4"]);
}
