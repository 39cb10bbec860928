//! Sockets on which Shims are served. A sandbox that nobody asks for one pays nothing for them.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use theca_controller::id::ContainerId;
use theca_controller::run_dir::{RunDir, RunDirError};
use theca_controller::sandbox::Sandbox;
use theca_proto::containerd::v1::services::shim::shim_server::ShimServer;
use theca_proto::unix_grpc::Connection;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tower::util::MapResponse;
use tracing::debug;

use super::ShimService;
use crate::{accepting, too_large};

/// Endpoints of one sandbox.
const MOST: usize = 256;
/// Connections to one endpoint.
const CONNECTIONS: usize = 16;
/// Calls at once on one connection.
const CALLS: u32 = 64;
/// How long a client may take to receive its last answers.
const FAREWELL: Duration = Duration::from_millis(500);
/// Bytes that a client may send on a connection before it waits for us. A spec is far below.
const WINDOW: u32 = 256 * 1024;
/// Largest message taken, in bytes.
const MAX_REQUEST: usize = 4 << 20;

/// Why an endpoint was not made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There are too many.
    #[error("the sandbox has {MOST} shim endpoints already: end some with Shim.Exit")]
    TooMany,
    /// Its socket could not be made.
    #[error(transparent)]
    Socket(#[from] RunDirError),
    /// Its socket could not be served.
    #[error("failed to serve a socket")]
    Serve(#[from] io::Error),
}

/// The endpoints of a sandbox. They end with the value.
pub struct Endpoints {
    sandbox: Sandbox,
    folder: RunDir,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Sockets are numbered: ids may be longer than the path of a socket.
    made: u64,
    sockets: HashMap<ContainerId, PathBuf>,
    serving: JoinSet<ContainerId>,
}

impl Endpoints {
    /// None yet, for containers of `sandbox`; sockets will be in `folder`.
    pub fn new(sandbox: Sandbox, folder: RunDir) -> Self {
        Self { sandbox, folder, open: Mutex::default() }
    }

    /// The socket of `container`'s endpoint, made if there is none. The container need not exist: it can be created there.
    pub fn open(&self, container: ContainerId) -> Result<PathBuf, EndpointError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = open.serving.try_join_next() {
            // An error is a panic; which endpoint it was is not told, and its socket answers nobody.
            if let Ok(container) = ended {
                open.sockets.remove(&container);
            }
        }
        if let Some(socket) = open.sockets.get(&container) {
            return Ok(socket.clone());
        }
        if open.sockets.len() == MOST {
            return Err(EndpointError::TooMany);
        }
        let path = self.folder.shim_socket(open.made);
        let listener = self.folder.listen(&path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let shim = ShimService::new(self.sandbox.clone(), container.clone());
        open.made += 1;
        open.sockets.insert(container.clone(), path.clone());
        let socket = path.clone();
        open.serving.spawn(async move {
            serve(&listener, shim).await;
            // The folder may be gone with the sandbox.
            let _ = std::fs::remove_file(socket);
            container
        });
        Ok(path)
    }
}

/// Until Exit was asked for. Calls that have not been answered by then are cut off, but for that one.
async fn serve(listener: &UnixListener, shim: ShimService) {
    let accept = |context: &mut Context<'_>| listener.poll_accept(context);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shim.over() => break,
            Some(_) = connections.join_next() => {}
            (stream, _) = accepting::next(accept), if connections.len() < CONNECTIONS => {
                connections.spawn(converse(stream, shim.clone()));
            }
        }
    }
    // The answer to Exit goes out.
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, drained).await;
}

async fn converse(stream: UnixStream, shim: ShimService) {
    let over = {
        let shim = shim.clone();
        async move { shim.over().await }
    };
    let shim = ShimServer::new(shim).max_decoding_message_size(MAX_REQUEST);
    let shim = MapResponse::new(shim, |response| too_large::renamed(response, MAX_REQUEST));
    let service = TowerToHyperService::new(shim);
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(CALLS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW);
    let mut conversation =
        std::pin::pin!(http.serve_connection(TokioIo::new(Connection::new(stream)), service));
    let ended = tokio::select! {
        ended = &mut conversation => ended,
        () = over => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to a shim endpoint has failed");
    }
}
