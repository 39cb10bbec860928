//! `thecad`: one per machine, serves the five generations of containerd's API over everything that runs on it.
//!
//! ```text
//!  config ─▶ lock ─▶ sockets ─▶ Node ─▶ endpoint (thecad.sock)       today's forms
//!                                  ├──▶ endpoint (thecad-2022.sock)  those of 2022 and 2017
//!                                  └──▶ metrics                      Prometheus
//! ```
//!
//! Nothing of a sandbox lives here: keepers own them, and the next thecad finds them again. So this process may end, or be
//! killed, at any moment.

mod args;
mod config;
mod descriptors;
mod endpoint;
mod limits;
mod lock;
mod log;
mod metrics;
mod notify;
mod signals;
mod socket;
mod unread;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use theca_api::keeper_client::{self, HostKeepers};
use theca_api::services;
use theca_controller::node::{Node, Setup};
use theca_controller::sys::heap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use args::Args;
use config::Config;
use endpoint::{Endpoint, Generation};
use lock::Lock;
use metrics::Scrapes;
use signals::Signals;
use socket::Socket;
use unread::Unread;

/// How long calls that are under way may take to end. A Wait does not; its caller asks the next thecad.
const FAREWELL: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thecad: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::read(args)?;
    log::begin(&config.log)?;
    let _alone = Lock::take(&config.state)?;
    limits::raise_descriptors();
    heap::stay_small();
    // Bound before anything is recovered: a client that comes early waits for its answer rather than being turned away.
    let today = Socket::bind(&config.socket, config.group)?;
    let generations = Socket::bind(&config.generations_socket, config.group)?;
    let scrapes = config.metrics.as_ref().map(|address| Scrapes::bind(address, config.group)).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to set up the runtime")?;
    let ended = runtime.block_on(serve(config, today, generations, scrapes));
    // A file system that hangs keeps the thread that reads from it.
    runtime.shutdown_timeout(FAREWELL);
    ended
}

async fn serve(
    config: Config,
    today: Socket,
    generations: Socket,
    scrapes: Option<Scrapes>,
) -> anyhow::Result<()> {
    let mut signals = Signals::watch()?;
    let keepers = HostKeepers::new(keeper_client::program()?, config.state.clone(), config.root.clone());
    let node = Node::open(Setup {
        keepers: Arc::new(keepers),
        root: config.root,
        state: config.state,
        limits: config.limits,
    })
    .await
    .context("failed to take over what runs")?;
    let (stop, stopping) = watch::channel(());
    let mut serving = JoinSet::new();
    let (mut calls, unread) = (Vec::new(), Unread::default());
    for (generation, socket, routes) in [
        (Generation::Today, today, services::today(&node)),
        (Generation::Older, generations, services::generations(&node)),
    ] {
        let endpoint = Endpoint::new(generation, socket, &unread)?;
        calls.push(Arc::clone(endpoint.calls()));
        serving.spawn(endpoint.serve(routes, stopping.clone()));
    }
    if let Some(scrapes) = scrapes {
        serving.spawn(scrapes.serve(node.clone(), calls, stopping));
    }
    notify::tell(notify::READY);
    info!("ready");

    let ended = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping; sandboxes go on running");
            Ok(())
        }
        // None of them ends by itself.
        Some(ended) = serving.join_next() => ended.context("a server's task failed")?,
    };
    notify::tell(notify::STOPPING);
    drop(stop);
    node.close().await;
    let all_served = async { while serving.join_next().await.is_some() {} };
    tokio::select! {
        () = all_served => {}
        () = tokio::time::sleep(FAREWELL) => {}
        _ = signals.next() => {}
    }
    ended
}
