//! What a task tells of itself. Nothing here changes it or asks the guest.

use super::Task;
use crate::error::Result;
use crate::id::ExecId;
use crate::task::process::Process;
use crate::task::state::Phase;
use crate::task::{ProcessDetail, ProcessReport, Which};

impl Task {
    pub(super) fn report(&self, which: &Which) -> Result<ProcessReport> {
        let process = self.process(which)?;
        let phase = process.phase();
        Ok(ProcessReport {
            bundle: self.bundle.clone(),
            pid: if matches!(phase, Phase::Added | Phase::Starting) { 0 } else { self.vm.vmm.pid() },
            phase,
            io: process.io.clone(),
            exit: process.exit(),
        })
    }

    /// On the host, one process stands for all of the container: the VMM. Pids of the guest would be taken for pids of
    /// strangers here, and a guest could choose them.
    pub(super) fn pids(&self) -> Vec<u32> {
        match self.init.phase() {
            Phase::Stopped => Vec::new(),
            _ => vec![self.vm.vmm.pid()],
        }
    }

    /// Init first, then the others by their names.
    pub(super) fn processes(&self) -> Vec<ProcessDetail> {
        let execs = self.execs.iter().map(|(exec, process)| detail(Some(exec), process));
        std::iter::once(detail(None, &self.init)).chain(execs).collect()
    }
}

fn detail(exec: Option<&ExecId>, process: &Process) -> ProcessDetail {
    ProcessDetail {
        exec: exec.cloned(),
        guest_pid: process.guest_pid_ever(),
        phase: process.phase(),
        exit: process.exit(),
        io: process.io.clone(),
        spec: process.spec.clone(),
    }
}
