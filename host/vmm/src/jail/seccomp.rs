//! Confining threads.

use std::sync::Arc;

use seccompiler::{BpfProgram, apply_filter};

use super::filters::{self, ThreadKind};
use super::program;

/// A compiled filter, to be installed by any number of threads.
#[derive(Clone, Debug)]
pub struct Filter(Arc<BpfProgram>);

/// The kernel does not take the filter, and so the thread does not run.
#[derive(Debug, thiserror::Error)]
#[error("failed to install the system call filter")]
pub struct SeccompError(#[from] seccompiler::Error);

/// Compiles the filter of `kind` for the calling process.
pub fn compile(kind: ThreadKind) -> Filter {
    Filter(Arc::new(program::compile(filters::of(kind).into_iter().flatten(), std::process::id())))
}

/// Confines the calling thread for the rest of its life.
pub fn install(filter: &Filter) -> Result<(), SeccompError> {
    Ok(apply_filter(&filter.0)?)
}
