//! What thecad serves at one endpoint, over keepers that are values instead of processes: for
//! `tests/python/offline/test_overflow.py`, which makes events faster than any VM does.
//!
//! `on_fakes today|generations SOCKET`

use std::error::Error;

use futures_util::stream;
use theca_api::services;
use theca_controller::node::testing::Bench;
use theca_proto::unix_grpc;
use tokio::net::UnixListener;
use tonic::transport::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, socket] = &arguments[..] else {
        return Err("usage: on_fakes today|generations SOCKET".into());
    };
    let machine = Bench::new().await;
    let routes = match endpoint.as_str() {
        "today" => services::today(&machine.node),
        "generations" => services::generations(&machine.node),
        _ => return Err(format!("no endpoint is called {endpoint}").into()),
    };
    let connections = stream::try_unfold(UnixListener::bind(socket)?, |listener| async move {
        let (connection, _) = listener.accept().await?;
        Ok::<_, std::io::Error>(Some((unix_grpc::Connection::new(connection), listener)))
    });
    Server::builder().add_routes(routes).serve_with_incoming(connections).await?;
    Ok(())
}
