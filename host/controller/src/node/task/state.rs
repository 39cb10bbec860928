//! What may be asked of a process where it stands: the keeper's own table ([`crate::task::state`]), asked before the keeper
//! is, so that every interface refuses in the same words.

use super::record::Record;
use crate::id::ExecId;
use crate::node::error::{Error, ProcessName, Result};
use crate::node::keeper::Phase;
use crate::task::state::{self as table, TaskRefusal, Verb};

/// Decides about `verb` for a process of `record`, which has it.
pub fn accept(record: &Record, exec: Option<&ExecId>, verb: Verb) -> Result<()> {
    let init = row(record.init.phase, false);
    let decided = match exec {
        None => table::accept_init(init, verb),
        Some(exec) => {
            let phase = record.execs.get(exec).map_or(Phase::Stopped, |proc| proc.phase);
            table::accept_exec(init, row(phase, true), verb)
        }
    };
    decided.map_err(|refusal| refused(record, exec, refusal))
}

fn row(phase: Phase, added: bool) -> table::Phase {
    match phase {
        Phase::Created if added => table::Phase::Added,
        Phase::Created => table::Phase::Created,
        Phase::Running => table::Phase::Running,
        Phase::Paused => table::Phase::Paused,
        Phase::Stopped => table::Phase::Stopped,
    }
}

fn refused(record: &Record, exec: Option<&ExecId>, refusal: TaskRefusal) -> Error {
    let (verb, state) = match refusal {
        TaskRefusal::AlreadyFinished => return Error::AlreadyFinished,
        TaskRefusal::NotNow { verb, state } => (verb, state),
        TaskRefusal::InitNotRunning(state) => ("start a process beside", state),
        other => return Error::Invalid(other.to_string()),
    };
    let process = match exec {
        Some(exec) if !matches!(refusal, TaskRefusal::InitNotRunning(_)) => ProcessName::Exec(exec.clone()),
        _ => ProcessName::Init,
    };
    Error::ProcessState { container: record.container.clone(), process, verb, state }
}
