//! Keepers as thecad reaches them: [`theca_controller::node::keeper`]'s traits over processes and ttrpc.
//!
//! A keeper is started as containerd starts it, by the program's `start`, and is called on the socket in its run folder.
//! Its process outlives this one; nothing here ends it but what is asked for by name.

mod connection;
mod convert;
mod spawn;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use theca_controller::id::{Namespace, SandboxId};
use theca_controller::node::keeper::{Answer, Keeper, KeeperError, Keepers, Launch};
use theca_controller::run_dir::RunDir;
use theca_controller::sandbox::residue;
use theca_controller::vmm::end;

use self::connection::Connection;
pub use self::spawn::{NoKeeperProgram, program};

/// Keepers of this machine.
#[derive(Clone, Debug)]
pub struct HostKeepers {
    program: PathBuf,
    state: PathBuf,
    root: PathBuf,
}

impl HostKeepers {
    /// Keepers that run `program`, live below `state`, `/run/theca`, and put what is large below `root`, `/var/lib/theca`.
    pub fn new(program: PathBuf, state: PathBuf, root: PathBuf) -> Self {
        Self { program, state, root }
    }

    fn folder(&self, namespace: &Namespace, sandbox: &SandboxId) -> RunDir {
        RunDir::new(&self.state, namespace, sandbox)
    }
}

#[async_trait]
impl Keepers for HostKeepers {
    async fn spawn(&self, launch: Launch) -> Answer<Arc<dyn Keeper>> {
        let (namespace, sandbox) = (launch.namespace.clone(), launch.sandbox.clone());
        spawn::start(&self.program, &self.state, &self.root, launch).await?;
        let keeper = self.connect(&namespace, &sandbox).await?;
        keeper.ok_or_else(|| KeeperError::Spawn("it ended as soon as it had started".into()))
    }

    async fn connect(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<Option<Arc<dyn Keeper>>> {
        let connection = Connection::open(&self.folder(namespace, sandbox).keeper_socket()).await?;
        Ok(connection.map(|connection| Arc::new(connection) as Arc<dyn Keeper>))
    }

    async fn clear(&self, namespace: &Namespace, sandbox: &SandboxId) -> Answer<()> {
        let folder = self.folder(namespace, sandbox);
        // It waits for processes that it has killed.
        let removed = tokio::task::spawn_blocking(move || residue::remove(&folder)).await;
        let errors = removed.map_err(|lost| KeeperError::Residue(lost.to_string()))?;
        if errors.is_empty() {
            return Ok(());
        }
        let told: Vec<_> = errors.iter().map(|error| theca_controller::error::story(error)).collect();
        Err(KeeperError::Residue(told.join("; ")))
    }

    fn address(&self, namespace: &Namespace, sandbox: &SandboxId) -> String {
        format!("ttrpc+unix://{}", self.folder(namespace, sandbox).keeper_socket().display())
    }

    async fn last_words(&self, namespace: &Namespace, sandbox: &SandboxId) -> String {
        let console = self.folder(namespace, sandbox).console_log();
        File::open(console).map(|console| end::tail(&console)).unwrap_or_default()
    }
}
