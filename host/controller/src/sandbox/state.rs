//! Where a sandbox stands, and which requests it takes there. Deciding is apart from doing: [`Phase::accept`] is pure.
//!
//! ```text
//!          Create                 agent ready
//!   Idle ─────────▶ Booting ─────────────────▶ Running
//!                      │ failed                   │ ephemeral task ended, agent lost
//!                      ▼                          ▼
//!                    Ended ◀──────────────── Stopping
//!                      ▲        VM over
//!                      └───────────────── (Running: the VM ended by itself)
//! ```
//!
//! `Shutdown` ends the keeper from any of them.

use std::sync::Arc;

use super::boot::{BootError, Vm};
use crate::vmm::{VmEnd, Vmm};

/// Where a sandbox stands, with what it has there.
#[derive(Debug)]
pub enum SandboxState {
    /// No VM yet.
    Idle,
    /// The VM runs; its agent has not reported.
    Booting(Vmm),
    /// The agent answers.
    Running(Vm),
    /// The VM was told to end.
    Stopping(Vmm),
    /// The VM is over. Exit statuses are kept.
    Ended(Ending),
}

/// Why there is no VM any more.
#[derive(Clone, Debug)]
pub enum Ending {
    /// It never came up.
    NotBooted(Arc<BootError>),
    /// It ran and ended.
    Ended(Arc<VmEnd>),
}

/// A [`SandboxState`] without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// See [`SandboxState::Idle`].
    Idle,
    /// See [`SandboxState::Booting`].
    Booting,
    /// See [`SandboxState::Running`].
    Running,
    /// See [`SandboxState::Stopping`].
    Stopping,
    /// See [`SandboxState::Ended`].
    Ended,
}

/// What is asked of a sandbox as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Another task.
    Create,
    /// The end.
    Shutdown {
        /// Whatever still runs in it.
        now: bool,
    },
    /// Something of the guest.
    AskGuest,
    /// The VM as a whole: to stand still, or to go on.
    HoldStill,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Boot the VM, then make the task.
    BootFirst,
    /// Make the task, as soon as the agent answers.
    Proceed,
    /// Nothing; it is not an error.
    Ignore,
    /// End the sandbox and the keeper.
    End,
}

/// Why a sandbox does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SandboxRefusal {
    /// Its VM is ending or has ended.
    #[error("the sandbox has ended: delete it and start another")]
    Over,
    /// Somebody has asked for its end, and it is on its way.
    #[error("the sandbox is being stopped")]
    Ending,
    /// Its VM stands still.
    #[error("the sandbox is paused: resume it first")]
    Paused,
    /// Its VM is not up, or not any more.
    #[error("the sandbox's VM does not run")]
    NotRunning,
    /// It is for one task and has had it.
    #[error("the sandbox was started for one task and has it already")]
    OneTaskOnly,
}

impl SandboxState {
    /// The state without its data.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Booting(_) => Phase::Booting,
            Self::Running(_) => Phase::Running,
            Self::Stopping(_) => Phase::Stopping,
            Self::Ended(_) => Phase::Ended,
        }
    }

    /// The VMM while there is one.
    pub fn vmm(&self) -> Option<&Vmm> {
        match self {
            Self::Booting(vmm) | Self::Stopping(vmm) => Some(vmm),
            Self::Running(vm) => Some(&vm.vmm),
            Self::Idle | Self::Ended(_) => None,
        }
    }
}

/// What else a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Tasks that were created and not deleted.
    pub tasks: usize,
    /// Whether there ever was a task.
    pub had_task: bool,
    /// Whether the sandbox is for one task.
    pub ephemeral: bool,
    /// Whether it lasts until it is told to end.
    pub hold: bool,
    /// Whether its VM stands still.
    pub paused: bool,
}

impl Phase {
    /// Decides about `wish`.
    pub fn accept(self, wish: Wish, circumstances: Circumstances) -> Result<Decision, SandboxRefusal> {
        match wish {
            Wish::Shutdown { now: false } if circumstances.tasks > 0 || circumstances.hold => {
                Ok(Decision::Ignore)
            }
            Wish::Shutdown { .. } => Ok(Decision::End),
            Wish::Create if matches!(self, Self::Stopping | Self::Ended) => Err(SandboxRefusal::Over),
            Wish::Create if circumstances.ephemeral && circumstances.had_task => {
                Err(SandboxRefusal::OneTaskOnly)
            }
            Wish::AskGuest | Wish::HoldStill if self != Self::Running => Err(SandboxRefusal::NotRunning),
            Wish::HoldStill => Ok(Decision::Proceed),
            Wish::AskGuest | Wish::Create if circumstances.paused => Err(SandboxRefusal::Paused),
            Wish::AskGuest => Ok(Decision::Proceed),
            Wish::Create if self == Self::Idle => Ok(Decision::BootFirst),
            Wish::Create => Ok(Decision::Proceed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 5] = [Phase::Idle, Phase::Booting, Phase::Running, Phase::Stopping, Phase::Ended];

    fn all_circumstances() -> impl Iterator<Item = Circumstances> {
        let bools = [false, true];
        (0..3).flat_map(move |tasks| {
            bools.into_iter().flat_map(move |had_task| {
                bools.into_iter().map(move |ephemeral| Circumstances {
                    tasks,
                    had_task: had_task || tasks > 0,
                    ephemeral,
                    hold: false,
                    paused: false,
                })
            })
        })
    }

    #[test]
    fn a_task_is_created_only_while_there_is_or_will_be_a_vm() {
        for circumstances in all_circumstances() {
            for phase in PHASES {
                let expected = match phase {
                    Phase::Stopping | Phase::Ended => Err(SandboxRefusal::Over),
                    _ if circumstances.ephemeral && circumstances.had_task => {
                        Err(SandboxRefusal::OneTaskOnly)
                    }
                    Phase::Idle => Ok(Decision::BootFirst),
                    Phase::Booting | Phase::Running => Ok(Decision::Proceed),
                };
                assert_eq!(
                    phase.accept(Wish::Create, circumstances),
                    expected,
                    "{phase:?} {circumstances:?}"
                );
            }
        }
    }

    #[test]
    fn shutdown_spares_a_sandbox_with_tasks_unless_it_is_meant() {
        for circumstances in all_circumstances() {
            for phase in PHASES {
                let asked = phase.accept(Wish::Shutdown { now: false }, circumstances).unwrap();
                assert_eq!(asked == Decision::End, circumstances.tasks == 0, "{phase:?} {circumstances:?}");
                assert_eq!(phase.accept(Wish::Shutdown { now: true }, circumstances), Ok(Decision::End));
                let held = Circumstances { hold: true, ..circumstances };
                assert_eq!(phase.accept(Wish::Shutdown { now: false }, held), Ok(Decision::Ignore));
                assert_eq!(phase.accept(Wish::Shutdown { now: true }, held), Ok(Decision::End));
            }
        }
    }

    #[test]
    fn a_vm_that_stands_still_is_asked_for_nothing_but_to_go_on() {
        for circumstances in all_circumstances().map(|others| Circumstances { paused: true, ..others }) {
            let accept = |wish| Phase::Running.accept(wish, circumstances);
            assert_eq!(accept(Wish::HoldStill), Ok(Decision::Proceed));
            assert_eq!(accept(Wish::AskGuest), Err(SandboxRefusal::Paused));
            assert!(accept(Wish::Create).is_err());
        }
    }

    #[test]
    fn only_a_vm_that_runs_is_asked() {
        for circumstances in all_circumstances() {
            for phase in PHASES {
                let runs = phase == Phase::Running;
                assert_eq!(phase.accept(Wish::AskGuest, circumstances).is_ok(), runs, "{phase:?}");
                assert_eq!(phase.accept(Wish::HoldStill, circumstances).is_ok(), runs, "{phase:?}");
            }
        }
    }
}
