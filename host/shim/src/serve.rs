//! `serve`: the keeper itself. One thread, one sandbox; it ends when the sandbox has.

use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use theca_api::agent::GrpcConnector;
use theca_api::keeper::KeeperService;
use theca_api::streaming::StreamingService;
use theca_api::{convert, forward, task};
use theca_controller::id::Namespace;
use theca_controller::install::Installation;
use theca_controller::run_dir::{RunDir, data_root, state_root};
use theca_controller::sandbox::{Sandbox, Setup, Timeline};
use theca_controller::sys::{heap, inherit};
use theca_proto::containerd::services::streaming::v1::streaming_ttrpc;
use theca_proto::theca::keeper::v1::keeper_ttrpc;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tracing::info;
use ttrpc::r#async::Server;
use ttrpc::r#async::transport::Listener;

use crate::args::Args;
use crate::log;

/// Set by containerd when it starts a shim: the socket where it wants to hear of tasks.
const EVENTS: &str = "TTRPC_ADDRESS";
/// How long clients may take to receive their last answers.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves on the inherited socket `listener` until the sandbox is gone.
pub fn run(args: &Args, listener: RawFd) -> anyhow::Result<()> {
    let timeline = Timeline::begin();
    heap::stay_small();
    let listener = inherit::take(listener).context("no socket was passed to serve on")?;
    nix::unistd::setsid().context("failed to leave the caller's session")?;
    let (namespace, id) = args.sandbox()?;
    let folder = RunDir::new(&state_root(), namespace, id);
    log::begin(&folder.keeper_log(), args.debug)?;
    let mut options = Vec::new();
    io::stdin().read_to_end(&mut options).context("failed to read the sandbox's options")?;
    let setup = Setup {
        folder,
        bundle: args.bundle.clone(),
        options: convert::options::sandbox(&options)?,
        installation: Installation::own(),
        scratch: data_root().join("tmp"),
        connector: Arc::new(GrpcConnector),
        timeline,
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to set up the runtime")?;
    let containerd = std::env::var(EVENTS).ok().filter(|address| !address.is_empty());
    runtime.block_on(serve(setup, listener, namespace.clone(), containerd))
}

/// `containerd` is where its socket for events is.
async fn serve(
    setup: Setup,
    listener: OwnedFd,
    namespace: Namespace,
    containerd: Option<String>,
) -> anyhow::Result<()> {
    let folder = setup.folder.clone();
    let (sandbox, mut ended) = Sandbox::begin(setup);
    let keeper = keeper_ttrpc::serve(Arc::new(KeeperService::new(sandbox.clone(), folder)));
    let history = sandbox.history().clone();
    let streaming = streaming_ttrpc::serve(Arc::new(StreamingService::new(sandbox.clone())));
    let listener = Listener::try_from(UnixListener::from(listener)).context("failed to listen")?;
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(task::services(&sandbox))
        .register_service(streaming.into_services())
        .register_service(keeper.into_services());
    server.start().await.context("failed to serve")?;
    let forwarding = containerd.map(|address| tokio::spawn(forward::run(history, namespace, address)));
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch for signals")?;
    loop {
        tokio::select! {
            done = &mut ended => {
                done.context("the sandbox's owner failed")?;
                break;
            }
            _ = terminate.recv() => sandbox.terminate().await,
            _ = interrupt.recv() => sandbox.terminate().await,
        }
    }
    info!("the sandbox is gone");
    if let Some(forwarding) = forwarding {
        // The last events; a containerd that is away does not keep us.
        let _ = timeout(FAREWELL, forwarding).await;
    }
    // What is not answered by then has nobody who waits for it.
    let _ = timeout(FAREWELL, server.shutdown()).await;
    Ok(())
}
