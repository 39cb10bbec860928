//! What the VMM gives up, because a guest may take it over.
//!
//! Two stages. [`enter`] runs first thing in `main`, before a byte of configuration is read: descriptors, namespaces,
//! root folder, user, capabilities. [`seccomp::install`] runs as each thread begins its work, when everything has been
//! opened and allocated; from then on a system call that its filter does not name kills the process.

pub mod filters;
mod limits;
mod namespaces;
mod program;
pub mod seccomp;

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, getuid, setgroups, setresgid, setresuid};

pub use limits::allow_disk;

use crate::sys;

/// Why the jail does not hold; the VMM does not start without it.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action}")]
pub struct JailError {
    action: &'static str,
    #[source]
    source: io::Error,
}

impl JailError {
    fn doing<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { action, source: source.into() }
    }
}

/// Whom the VMM runs as when it starts privileged: nobody, who owns nothing.
const NOBODY: u32 = 65534;

/// First stage. `control` is the only descriptor beside the standard three that survives.
pub fn enter(control: &impl AsRawFd) -> Result<(), JailError> {
    sys::jail::close_all_but(control).map_err(JailError::doing("close inherited descriptors"))?;
    limits::set().map_err(JailError::doing("set resource limits"))?;
    namespaces::leave().map_err(JailError::doing("leave the host's namespaces"))?;
    if getuid().is_root() {
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[]).map_err(JailError::doing("drop supplementary groups"))?;
        setresgid(group, group, group).map_err(JailError::doing("become group nobody"))?;
        setresuid(user, user, user).map_err(JailError::doing("become user nobody"))?;
    }
    sys::jail::drop_capabilities().map_err(JailError::doing("drop capabilities"))?;
    prctl::set_no_new_privs().map_err(JailError::doing("forbid new privileges"))?;
    // After the change of user, which resets both.
    prctl::set_dumpable(false).map_err(JailError::doing("forbid core dumps and tracing"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(JailError::doing("tie the VMM to its parent's life"))
}
