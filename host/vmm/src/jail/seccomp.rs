//! Turning filter data into what the kernel runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::filters::{self, Rule, ThreadKind};

/// A compiled filter, to be installed by any number of threads.
#[derive(Clone, Debug)]
pub struct Filter(Arc<BpfProgram>);

/// Why a thread has no filter, and so does not run.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The data does not make a filter.
    #[error("failed to compile the system call filter")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("failed to install the system call filter")]
    Install(#[from] seccompiler::Error),
}

/// Compiles the filter of `kind`.
pub fn compile(kind: ThreadKind) -> Result<Filter, SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in filters::of(kind).into_iter().flatten() {
        rules.entry(rule.call).or_default().extend(condition(rule)?);
    }
    let filter =
        SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(Filter(Arc::new(filter.try_into()?)))
}

fn condition(rule: &Rule) -> Result<Option<SeccompRule>, seccompiler::BackendError> {
    let Some((argument, value)) = rule.only else {
        return Ok(None);
    };
    let equal = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
    Ok(Some(SeccompRule::new(vec![equal])?))
}

/// Confines the calling thread for the rest of its life.
pub fn install(filter: &Filter) -> Result<(), SeccompError> {
    Ok(apply_filter(&filter.0)?)
}
