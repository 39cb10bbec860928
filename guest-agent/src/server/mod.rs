//! The agent's services: thin adapters between the wire and [`crate::container`].
//!
//! One file per service; [`status`] gives errors their codes; [`streams`] carries the bytes of processes.

mod agent;
mod convert;
mod filter;
pub mod kernel;
mod shim;
pub mod status;
pub mod streams;
mod tasks;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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
    let shim =
        ShimServer::new(shim::Service::new(sandbox, stop.clone())).max_decoding_message_size(MAX_MESSAGE);
    let serving = Server::builder()
        .add_service(tasks)
        .add_service(agent)
        .add_service(shim)
        .serve_with_incoming_shutdown(incoming, stop.clone().asked());
    // Calls that do not end by themselves do not hold up the guest's end for longer.
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

    /// `stream`, which then ends with the serving at the latest: a call that never ends by itself would be waited for.
    fn ends<T: 'static>(&self, stream: impl Stream<Item = T> + Send + 'static) -> BoxStream<T> {
        Box::pin(UntilAsked { stream: Box::pin(stream), asked: Box::pin(self.clone().asked()) })
    }
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

struct UntilAsked<T> {
    stream: BoxStream<T>,
    asked: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<T> Stream for UntilAsked<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // What has happened is still told.
        match self.stream.as_mut().poll_next(cx) {
            Poll::Pending => self.asked.as_mut().poll(cx).map(|()| None),
            ready => ready,
        }
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
