//! The agent's services: thin adapters between the wire and [`crate::container`].
//!
//! One file per service; [`status`] gives errors their codes; [`streams`] carries the bytes of processes.

mod agent;
mod convert;
pub mod kernel;
mod shim;
pub mod status;
pub mod streams;
mod tasks;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use theca_proto::containerd::services::tasks::v1::tasks_server::TasksServer;
use theca_proto::containerd::v1::services::shim::shim_server::ShimServer;
use theca_proto::theca::agent::v1::agent_server::AgentServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::Connected;

use self::streams::Streams;
use crate::container::Sandbox;

/// The longest request: a spec with a long seccomp section and environment stays far below.
const MAX_MESSAGE: usize = 8 << 20;

/// Serves Tasks, Shim and Agent to every connection that comes in, until a Shutdown call has ended all containers. The answer to
/// it and to other calls then has `farewell` to reach the host.
pub async fn serve<I, C>(
    sandbox: Arc<Sandbox>,
    incoming: I,
    farewell: Duration,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = io::Result<C>>,
    C: Connected + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = Stop::default();
    let tasks =
        TasksServer::new(tasks::Service::new(Arc::clone(&sandbox))).max_decoding_message_size(MAX_MESSAGE);
    let agent = AgentServer::new(agent::Service::new(Arc::clone(&sandbox), stop.clone()))
        .max_decoding_message_size(MAX_MESSAGE);
    let shim = ShimServer::new(shim::Service::new(sandbox)).max_decoding_message_size(MAX_MESSAGE);
    let serving = Server::builder()
        .add_service(tasks)
        .add_service(agent)
        .add_service(shim)
        .serve_with_incoming_shutdown(incoming, stop.clone().asked());
    // Calls that never end by themselves, such as Events, do not hold up the guest's end.
    let late = async {
        stop.asked().await;
        tokio::time::sleep(farewell).await;
    };
    tokio::select! {
        served = serving => served,
        () = late => Ok(()),
    }
}

/// The word to stop serving, for any number of listeners.
#[derive(Clone, Default)]
struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    fn ask(&self) {
        self.0.send_replace(true);
    }

    async fn asked(self) {
        // The sender is this very value.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }
}

/// Takes connections to the stream port for ever.
pub async fn serve_streams<I, C>(streams: Streams, mut incoming: I)
where
    I: Stream<Item = io::Result<C>> + Unpin,
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(connection) => {
                let streams = streams.clone();
                tokio::spawn(async move { streams.accept(connection).await });
            }
            Err(error) => tracing::warn!(%error, "a connection to the stream port failed"),
        }
    }
}
