//! Which request may come when: pure, apart from doing it.

use theca_vmm_protocol::Request;

/// How far the VM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is configured.
    Empty,
    /// Built, never run.
    Built,
    /// The guest runs.
    Running,
    /// The guest stands still.
    Paused,
}

/// Why a request is out of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfPlace {
    /// There is no VM.
    #[error("the VM is not configured yet")]
    NotConfigured,
    /// There is one already.
    #[error("the VM is configured already; start another VMM for another VM")]
    AlreadyConfigured,
    /// It runs already.
    #[error("the VM was started already")]
    AlreadyStarted,
    /// It does not run yet.
    #[error("the VM was not started yet")]
    NotStarted,
    /// Its state does not hold still.
    #[error("the VM is running; pause it first")]
    NotPaused,
}

/// Whether `request` makes sense in `phase`.
pub fn admit(phase: Phase, request: &Request) -> Result<(), OutOfPlace> {
    use Phase::{Built, Empty, Paused, Running};
    match (request, phase) {
        (Request::Quit | Request::Stats, _) | (Request::Configure(_), Empty) | (Request::Start, Built) => {
            Ok(())
        }
        (_, Empty) => Err(OutOfPlace::NotConfigured),
        (Request::Configure(_), _) => Err(OutOfPlace::AlreadyConfigured),
        (Request::Start, _) => Err(OutOfPlace::AlreadyStarted),
        (Request::AttachDisk { .. } | Request::DetachDisk { .. }, _) => Ok(()),
        (Request::Pause | Request::Resume | Request::SaveState { .. }, Built) => Err(OutOfPlace::NotStarted),
        (Request::Pause | Request::Resume, _) | (Request::SaveState { .. }, Paused) => Ok(()),
        (Request::SaveState { .. }, Running) => Err(OutOfPlace::NotPaused),
    }
}

#[cfg(test)]
mod tests {
    use theca_vmm_protocol::FdIndex;

    use super::*;

    #[test]
    fn a_vm_is_started_once() {
        assert_eq!(admit(Phase::Empty, &Request::Start), Err(OutOfPlace::NotConfigured));
        assert_eq!(admit(Phase::Built, &Request::Start), Ok(()));
        assert_eq!(admit(Phase::Running, &Request::Start), Err(OutOfPlace::AlreadyStarted));
        assert_eq!(admit(Phase::Paused, &Request::Start), Err(OutOfPlace::AlreadyStarted));
    }

    #[test]
    fn state_is_saved_only_while_it_holds_still() {
        let save = Request::SaveState { file: FdIndex(0) };
        assert_eq!(admit(Phase::Built, &save), Err(OutOfPlace::NotStarted));
        assert_eq!(admit(Phase::Running, &save), Err(OutOfPlace::NotPaused));
        assert_eq!(admit(Phase::Paused, &save), Ok(()));
    }

    #[test]
    fn pause_and_resume_repeat_harmlessly() {
        for phase in [Phase::Running, Phase::Paused] {
            assert_eq!(admit(phase, &Request::Pause), Ok(()));
            assert_eq!(admit(phase, &Request::Resume), Ok(()));
        }
    }
}
