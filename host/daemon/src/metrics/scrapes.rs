//! Where Prometheus comes by: HTTP/1.1, `GET /metrics`, on a unix socket or a loopback port.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use anyhow::Context;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::Gid;
use theca_api::accepting;
use theca_controller::node::Node;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::calls::{self, Calls};
use super::text::{self, Text};
use super::{own, sandboxes};
use crate::config::ScrapeAddress;
use crate::socket::Socket;

/// Connections at a time. Any process of the machine may open one at a loopback port.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The listening socket.
#[derive(Debug)]
pub enum Scrapes {
    /// A unix socket.
    Unix(Socket),
    /// A loopback port.
    Loopback(TcpListener, SocketAddr),
}

impl Scrapes {
    /// Listens at `address`.
    pub fn bind(address: &ScrapeAddress, group: Option<Gid>) -> anyhow::Result<Self> {
        Ok(match address {
            ScrapeAddress::Unix(path) => Self::Unix(Socket::bind(path, group)?),
            ScrapeAddress::Loopback(address) => {
                let bound = TcpListener::bind(address)
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
                Self::Loopback(bound.with_context(|| format!("failed to listen on {address}"))?, *address)
            }
        })
    }

    /// Answers until `stopping` is closed.
    pub async fn serve(
        self,
        node: Node,
        calls: Vec<Arc<Calls>>,
        mut stopping: watch::Receiver<()>,
    ) -> anyhow::Result<()> {
        let figures = Arc::new(Figures { node, calls, one_at_a_time: Mutex::new(()) });
        let accepting = async {
            match &self {
                Self::Unix(socket) => {
                    info!(socket = %socket.path().display(), "serving metrics");
                    let listener = socket.listener().context("failed to serve metrics")?;
                    accept(figures, move |task| listener.poll_accept(task).map_ok(first)).await;
                }
                Self::Loopback(listener, address) => {
                    info!(%address, "serving metrics");
                    let listener = listener.try_clone().and_then(tokio::net::TcpListener::from_std);
                    let listener = listener.context("failed to serve metrics")?;
                    accept(figures, move |task| listener.poll_accept(task).map_ok(first)).await;
                }
            }
            Ok(())
        };
        tokio::select! {
            failed = accepting => failed,
            _ = stopping.changed() => Ok(()),
        }
    }
}

/// What is scraped.
struct Figures {
    node: Node,
    calls: Vec<Arc<Calls>>,
    /// However many scrape, each guest is asked by one of them at a time.
    one_at_a_time: Mutex<()>,
}

impl Figures {
    async fn text(&self) -> String {
        let _turn = self.one_at_a_time.lock().await;
        let mut text = Text::default();
        own::write(&mut text);
        calls::write(&mut text, &self.calls);
        sandboxes::write(&mut text, &self.node).await;
        text.finish()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => Response::new(self.text().await),
            (_, "/metrics") => refusal(StatusCode::METHOD_NOT_ALLOWED, "use GET\n"),
            _ => refusal(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
        };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE));
        Ok(response)
    }
}

fn refusal(status: StatusCode, advice: &str) -> Response<String> {
    let mut response = Response::new(advice.to_owned());
    *response.status_mut() = status;
    response
}

fn first<Connection, Address>((connection, _): (Connection, Address)) -> Connection {
    connection
}

/// Serves whoever connects, without end. Connections end with this future.
async fn accept<Connection>(
    figures: Arc<Figures>,
    mut poll: impl FnMut(&mut task::Context<'_>) -> Poll<io::Result<Connection>>,
) where
    Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let connection = accepting::next(&mut poll).await;
        // Nobody closes it.
        let place = Arc::clone(&room).acquire_owned().await.ok();
        let figures = Arc::clone(&figures);
        connections.spawn(async move {
            let _place = place;
            serve(connection, &figures).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(connection: impl AsyncRead + AsyncWrite + Unpin, figures: &Figures) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        // One scrape each: whoever lingers keeps others out.
        .keep_alive(false)
        .serve_connection(TokioIo::new(connection), service_fn(|request| figures.answer(request)))
        .await;
    if let Err(error) = served {
        debug!(%error, "a scrape has failed");
    }
}
