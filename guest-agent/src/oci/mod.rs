//! From an OCI runtime spec to what the guest does about it.
//!
//! Reading a spec has two halves: [`refuse`] names whatever this runtime does not do, so that nothing of a spec is
//! silently dropped, and the other files turn the rest into jobs ([`crate::setup::job`]) and cgroup settings.
//! All of it is pure: no file is touched.

mod affinity;
mod capabilities;
mod container;
mod devices;
mod hooks;
mod mounts;
mod namespaces;
mod process;
mod refuse;
mod spec;
mod sysctls;

pub use container::{Container, PidNamespace, Runtime, container_job};
pub use devices::default_devices;
pub use hooks::{HookPoint, hooks};
pub use namespaces::has_own_pid_namespace;
pub use process::{parse_process, process_job};
pub use spec::{Process, Spec};

/// Why a spec cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No JSON, or JSON of another shape.
    #[error("the {what} is not valid: {source}")]
    Parse {
        /// Spec, process or resources.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A feature that this runtime does not have.
    #[error("{field} is not supported: {reason}")]
    Unsupported {
        /// Path of the field in the spec.
        field: String,
        /// Why, or what to use instead.
        reason: &'static str,
    },
    /// A value that means nothing.
    #[error("{field} is invalid: {reason}")]
    Invalid {
        /// Path of the field in the spec.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl SpecError {
    pub(crate) fn unsupported(field: impl Into<String>, reason: &'static str) -> Self {
        Self::Unsupported { field: field.into(), reason }
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

/// Parses a `config.json` and refuses what cannot be run.
pub fn parse_spec(json: &[u8]) -> Result<Spec, SpecError> {
    let spec =
        serde_json::from_slice(json).map_err(|source| SpecError::Parse { what: "runtime spec", source })?;
    refuse::spec(&spec)?;
    Ok(spec)
}
