//! One socket and what is served there: the generations in one of their two forms, health, and reflection.

use std::io;
use std::sync::Arc;

use anyhow::Context;
use futures_util::{Stream, stream};
use theca_api::accepting;
use theca_proto::descriptors;
use theca_proto::unix_grpc::Connection;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;
use tracing::info;

use crate::descriptors::{ServiceNames, services};
use crate::metrics::{Calls, Observed};
use crate::socket::Socket;
use crate::unread::Unread;

/// Calls under way on one connection, waiters included. Further ones wait in their client.
const MAX_STREAMS: u32 = 8192;
/// Bytes that a client may send on one stream, or on all, before it waits for us.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Which form is served of what has two. See [`theca_proto::generations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Today's.
    Today,
    /// Sandboxes as in 2022, containers as in 2017.
    Older,
}

impl Generation {
    /// Its word in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Today => "today",
            Self::Older => "generations",
        }
    }

    fn descriptors(self) -> &'static [u8] {
        match self {
            Self::Today => descriptors::TODAY,
            Self::Older => descriptors::GENERATIONS,
        }
    }
}

/// A socket that is about to be served.
#[derive(Debug)]
pub struct Endpoint {
    generation: Generation,
    socket: Socket,
    services: Vec<ServiceNames>,
    calls: Arc<Calls>,
    unread: Unread,
}

impl Endpoint {
    /// Reads what the generation consists of. Answers count as `unread` until they are read.
    pub fn new(generation: Generation, socket: Socket, unread: &Unread) -> anyhow::Result<Self> {
        let services = services(generation.descriptors()).context("the built-in descriptors are damaged")?;
        let calls = Arc::new(Calls::new(generation.name(), &services));
        Ok(Self { generation, socket, services, calls, unread: unread.clone() })
    }

    /// Its calls, counted.
    pub fn calls(&self) -> &Arc<Calls> {
        &self.calls
    }

    /// Serves `routes` until `stopping` is closed and every call has ended, however long that takes.
    pub async fn serve(self, routes: Routes, mut stopping: watch::Receiver<()>) -> anyhow::Result<()> {
        let health = HealthReporter::new();
        self.set_health(&health, ServingStatus::Serving).await;
        let reflection = || {
            Reflection::configure()
                .register_encoded_file_descriptor_set(self.generation.descriptors())
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let routes = routes
            .add_service(tonic_health::pb::health_server::HealthServer::new(
                tonic_health::server::HealthService::from_health_reporter(health.clone()),
            ))
            .add_service(reflection().build_v1().context("failed to set up reflection")?)
            // Python's client asks for this one.
            .add_service(reflection().build_v1alpha().context("failed to set up reflection")?);
        let listener = self.socket.listener().context("failed to serve")?;
        info!(socket = %self.socket.path().display(), "serving");
        let stopped = async {
            // Only its end counts: nobody sends.
            let _ = stopping.changed().await;
            self.set_health(&health, ServingStatus::NotServing).await;
        };
        Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .layer(Observed::new(Arc::clone(&self.calls)))
            .layer(self.unread.clone())
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections(listener), stopped)
            .await
            .with_context(|| format!("failed to serve {}", self.socket.path().display()))
    }

    async fn set_health(&self, health: &HealthReporter, status: ServingStatus) {
        for service in &self.services {
            health.set_service_status(&service.service, status).await;
        }
        // The server as a whole.
        health.set_service_status("", status).await;
    }
}

/// Everybody who connects.
fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<Connection<UnixStream>>> {
    stream::unfold(listener, |listener| async {
        let (stream, _) = accepting::next(|context| listener.poll_accept(context)).await;
        Some((Ok(Connection::new(stream)), listener))
    })
}
