//! A server of gRPC reflection and nothing else, for `tests/python/offline/test_reflection.py`: what a client learns of an
//! endpoint is what was published of it.
//!
//! `reflection today|generations|shim SOCKET`

use std::error::Error;

use theca_proto::{descriptors, unix_grpc};
use tokio::net::UnixListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic_reflection::server::Builder;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, socket] = &arguments[..] else {
        return Err("usage: reflection today|generations|shim SOCKET".into());
    };
    let descriptors = match endpoint.as_str() {
        "today" => descriptors::TODAY,
        "generations" => descriptors::GENERATIONS,
        "shim" => descriptors::SHIM,
        _ => return Err(format!("no endpoint is called {endpoint}").into()),
    };
    let described = || Builder::configure().register_encoded_file_descriptor_set(descriptors);
    let accepted = UnixListenerStream::new(UnixListener::bind(socket)?);
    let connections = accepted.map(|connection| connection.map(unix_grpc::Connection::new));
    Server::builder()
        .add_service(described().build_v1()?)
        // Python's client knows only this one.
        .add_service(described().build_v1alpha()?)
        .serve_with_incoming(connections)
        .await?;
    Ok(())
}
