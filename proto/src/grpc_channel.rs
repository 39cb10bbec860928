//! One HTTP/2 connection as what tonic's clients call: of a keeper to its agent, of `theca` to thecad. Without tonic's own
//! channel, whose reconnecting, buffering and balancing have no use here and cost every sandbox memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower::Service;

/// Bytes that the other side may send on one stream before it waits for us.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for the connection.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// The connection; clones share it, and it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Channel {
    sender: SendRequest<Body>,
    _driver: Arc<JoinSet<()>>,
}

/// Begins HTTP/2 on `stream`. The first request does not wait for the other side's settings.
pub async fn open(stream: UnixStream) -> Result<Channel, hyper::Error> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    // Whoever has a call under way is told how it failed.
    driver.spawn(async move { drop(connection.await) });
    Ok(Channel { sender, _driver: Arc::new(driver) })
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
