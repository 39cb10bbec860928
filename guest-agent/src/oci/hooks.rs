//! The six moments at which a spec runs programs of its own.

use std::path::PathBuf;

use super::{Spec, SpecError};
use crate::setup::job::Hook;

/// A moment of a container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// In the guest, once the namespaces are there; the old name of the next.
    Prestart,
    /// In the guest, once the namespaces are there.
    CreateRuntime,
    /// In the container's namespaces, before its root is.
    CreateContainer,
    /// In the container, before its program.
    StartContainer,
    /// In the guest, after the program has started.
    Poststart,
    /// In the guest, after the container was deleted.
    Poststop,
}

impl HookPoint {
    /// The name in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// Whether a hook's path is one of the guest rather than of the container.
    pub fn runs_in_guest(self) -> bool {
        self != Self::StartContainer
    }

    /// All of them, in the order of a life.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];
}

/// The hooks of one moment; `state` is what they read on stdin.
pub fn hooks(spec: &Spec, point: HookPoint, state: &str) -> Result<Vec<Hook>, SpecError> {
    let Some(hooks) = &spec.hooks else { return Ok(Vec::new()) };
    let list = match point {
        // The spec deprecates it; it is still what many tools write.
        HookPoint::Prestart =>
        {
            #[allow(deprecated)]
            hooks.prestart()
        }
        HookPoint::CreateRuntime => hooks.create_runtime(),
        HookPoint::CreateContainer => hooks.create_container(),
        HookPoint::StartContainer => hooks.start_container(),
        HookPoint::Poststart => hooks.poststart(),
        HookPoint::Poststop => hooks.poststop(),
    };
    list.iter().flatten().map(|hook| convert(hook, point, state)).collect()
}

fn convert(hook: &oci_spec::runtime::Hook, point: HookPoint, state: &str) -> Result<Hook, SpecError> {
    let field = || format!("hooks.{}: {}", point.name(), hook.path().display());
    let path: PathBuf = hook.path().clone();
    if !path.is_absolute() {
        return Err(SpecError::invalid(field(), "the path is not absolute"));
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(seconds.unsigned_abs()),
        Some(_) => return Err(SpecError::invalid(field(), "the timeout is not positive")),
    };
    let args = hook.args().clone().filter(|args| !args.is_empty());
    Ok(Hook {
        point: point.name().to_owned(),
        args: args.unwrap_or_else(|| vec![path.display().to_string()]),
        path,
        env: hook.env().clone().unwrap_or_default(),
        timeout,
        state: state.to_owned(),
    })
}
