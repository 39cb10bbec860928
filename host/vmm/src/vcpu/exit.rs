//! What an exit of a vCPU means.

use kvm_ioctls::VcpuExit;
use theca_vmm_protocol::ExitReason;
use vm_memory::{Bytes, GuestAddress};

use crate::arch::x86_64::layout::{WARM_BOOT, WARM_BOOT_WORD};
use crate::legacy::{Ports, Reset};
use crate::memory::GuestMemory;
use crate::mmio::MmioBus;

/// What every vCPU of a VM shares.
pub struct Machine {
    /// Guest RAM.
    pub memory: GuestMemory,
    /// Port I/O.
    pub ports: Ports,
    /// Memory-mapped I/O.
    pub mmio: MmioBus,
}

/// What to do after an exit.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Enter the guest again.
    Continue,
    /// The machine is over.
    End(ExitReason),
    /// KVM gave up; `kvm_run` says why.
    InternalError,
}

impl Machine {
    /// Serves one exit.
    pub fn serve(&self, exit: VcpuExit<'_>) -> Outcome {
        match exit {
            VcpuExit::MmioWrite(address, data) => self.mmio.write(address, data),
            VcpuExit::MmioRead(address, data) => self.mmio.read(address, data),
            VcpuExit::IoOut(port, data) => {
                if let Some(reset) = self.ports.write(port, data) {
                    return Outcome::End(self.reset_reason(reset));
                }
            }
            VcpuExit::IoIn(port, data) => self.ports.read(port, data),
            VcpuExit::Intr | VcpuExit::IrqWindowOpen => {}
            VcpuExit::Shutdown => return Outcome::End(ExitReason::TripleFault),
            VcpuExit::InternalError => return Outcome::InternalError,
            VcpuExit::FailEntry(reason, cpu) => {
                return failed(format!(
                    "the processor refused to enter the guest on CPU {cpu} (reason {reason:#x}); the host's KVM and its hardware disagree"
                ));
            }
            VcpuExit::MemoryFault { gpa, .. } => {
                return failed(format!(
                    "the host could not provide the guest's memory at {gpa:#x}; it may be out of memory"
                ));
            }
            other => {
                return failed(format!(
                    "KVM left the guest for a reason that Theca does not know: {other:?}"
                ));
            }
        }
        Outcome::Continue
    }

    /// A kernel that panics sets the warm-boot word before it resets (`reboot=…panic_warm`), whichever way it resets.
    fn reset_reason(&self, reset: Reset) -> ExitReason {
        let warm: u16 = self.memory.read_obj(GuestAddress(WARM_BOOT_WORD)).unwrap_or(0);
        match reset {
            _ if warm == WARM_BOOT => ExitReason::Panic,
            Reset::Keyboard => ExitReason::Reboot,
            Reset::ResetControl => ExitReason::Shutdown,
        }
    }
}

fn failed(sentence: String) -> Outcome {
    Outcome::End(ExitReason::Failed(sentence))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::console_log::ConsoleLog;
    use crate::memory::{MemorySize, allocate};

    fn machine() -> Machine {
        let log = ConsoleLog::new(tempfile::tempfile().unwrap(), 4096).unwrap();
        let memory = allocate(MemorySize::from_mib(32).unwrap()).unwrap();
        Machine { memory, ports: Ports::new(Arc::new(Mutex::new(log))), mmio: MmioBus::default() }
    }

    #[test]
    fn every_way_to_end_has_its_own_reason() {
        let machine = machine();
        let end = |port, value: u8| machine.serve(VcpuExit::IoOut(port, &[value]));
        assert_eq!(end(0x64, 0xfe), Outcome::End(ExitReason::Reboot));
        assert_eq!(end(0xcf9, 0x0e), Outcome::End(ExitReason::Shutdown));
        assert_eq!(machine.serve(VcpuExit::Shutdown), Outcome::End(ExitReason::TripleFault));
        machine.memory.write_obj(WARM_BOOT, GuestAddress(WARM_BOOT_WORD)).unwrap();
        assert_eq!(end(0x64, 0xfe), Outcome::End(ExitReason::Panic));
        assert_eq!(end(0xcf9, 0x06), Outcome::End(ExitReason::Panic));
    }

    #[test]
    fn an_unknown_exit_ends_the_machine_with_a_sentence() {
        let Outcome::End(ExitReason::Failed(text)) = machine().serve(VcpuExit::FailEntry(0x8000_0021, 1))
        else {
            panic!("a failed entry must end the machine");
        };
        assert!(text.contains("0x80000021"), "{text}");
    }
}
