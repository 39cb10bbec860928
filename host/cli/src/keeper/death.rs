//! Ending what does not want to end.

use std::time::Duration;

use nix::libc::SIGKILL;

use super::{Keeper, KeeperError};
use crate::output;

/// How long a container may take to die.
const DEATH: Duration = Duration::from_secs(15);

/// What died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The process.
    Process,
    /// The VM under it.
    Vm,
}

impl Keeper {
    /// Sends SIGKILL to a container's init, or to all of it, and waits for the end. Where the guest does not bring it about,
    /// its VM goes.
    pub async fn put_to_death(&self, all: bool) -> Result<Death, KeeperError> {
        let killed = async {
            match self.kill("", SIGKILL, all).await {
                // It has ended, and may still count as running because a reader of its output is waited for.
                Err(error) if error.is_not_found() => {}
                sent => sent?,
            }
            self.wait("").await
        };
        match tokio::time::timeout(DEATH, killed).await {
            Ok(Err(error)) if error.is_late() => {}
            Err(_) => {}
            Ok(Err(error)) if !error.is_not_found() && !error.is_gone() => return Err(error),
            Ok(_) => return Ok(Death::Process),
        }
        output::warn("the guest does not answer, and its VM is ended");
        self.shutdown().await.map(|()| Death::Vm)
    }
}
