//! The guest's start and end.
//!
//! Nothing here waits: file systems, settings and listeners are there when their call returns, and being ready is told
//! to the host, not looked for by it. A failure ends pid 1, which the kernel answers with a panic that the VMM reports
//! together with the console.

mod mounts;
mod phases;
mod power;
mod ready;
mod settings;
mod vsock;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::phases::Phases;
use crate::cgroup::Tree;
use crate::config::Config;
use crate::container::Sandbox;
use crate::log;
use crate::reaper::Reaper;
use crate::server::{self, streams::Streams};
use crate::sys::network;

/// Memory that the kernel does not take back from the agent.
const AGENT_MEMORY: u64 = 8 << 20;
/// How long the answer to Shutdown may take on its way, and connections to close.
const FAREWELL: Duration = Duration::from_millis(250);

/// Why a guest does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    #[error("failed to {action}")]
    Io { action: String, source: io::Error },
    #[error("failed to serve the host")]
    Serve(#[from] tonic::transport::Error),
}

impl StartError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// Runs the guest, from its first process's first moment to its power-off.
pub fn run() -> ! {
    let mut phases = Phases::begin();
    let outcome = start(&mut phases).and_then(|tree| serve(phases, tree));
    if let Err(error) = outcome {
        // The console is all there is for sure.
        eprintln!("theca-agent: {}", sentence(&error));
        std::process::exit(1);
    }
    power::off()
}

/// Everything that needs no runtime.
fn start(phases: &mut Phases) -> Result<Tree, StartError> {
    mounts::set_up()?;
    log::to_kernel();
    phases.reached("mounts");
    settings::apply();
    phases.reached("settings");
    network::loopback_up().map_err(StartError::io("bring the loopback interface up"))?;
    phases.reached("loopback");
    let tree = Tree::set_up(&Config::guest().cgroups)?;
    tree.adopt_agent(AGENT_MEMORY)?;
    phases.reached("cgroups");
    Ok(tree)
}

/// Serves until the host says Shutdown.
fn serve(mut phases: Phases, tree: Tree) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::io("start the runtime"))?;
    runtime.block_on(async {
        let reaper = Reaper::default();
        tokio::spawn(reaper.clone().run());
        let listen =
            |port| vsock::listen(port).map_err(StartError::io(format!("listen on vsock port {port}")));
        let (calls, raw) = (listen(theca_proto::ports::AGENT)?, listen(theca_proto::ports::STREAM)?);
        let streams = Streams::default();
        tokio::spawn(server::serve_streams(streams.clone(), raw));
        let sandbox = Arc::new(Sandbox::new(Config::guest(), reaper, streams, tree));
        phases.reached("listening");
        // Kept open for as long as the guest lives: its end tells the host of the guest's.
        let _ready =
            ready::announce(phases).await.map_err(StartError::io("tell the host that the guest is ready"))?;
        Ok(server::serve(sandbox, calls, FAREWELL).await?)
    })
}

fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence = format!("{sentence}: {error}");
        cause = error.source();
    }
    sentence
}
