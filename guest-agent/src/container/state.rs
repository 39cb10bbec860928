//! What may be done with a container when. Pure: the verbs ask here first.
//!
//! ```text
//!   prepare ──▶ (no task) ── create ──▶ Created ── start ──▶ Running ◀── resume ── Paused
//!      ▲                        ▲          │                  │   └──── pause ────────▲
//!   release ◀─── (no task) ◀─ delete ◀─────┴─────▶ Stopped ◀──┘  (its init has ended)
//! ```

use super::Error;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Made and waiting for Start.
    Created,
    /// Its program runs.
    Running,
    /// Stopped by the freezer.
    Paused,
    /// Its init has ended.
    Stopped,
}

impl Status {
    /// A word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// Start runs a created container's program.
    pub fn can_start(self) -> bool {
        self == Self::Created
    }

    /// Exec needs a program that runs: nothing starts in a frozen cgroup.
    pub fn can_exec(self) -> bool {
        self == Self::Running
    }

    /// Signals reach whatever has not ended; a paused process gets them when it is resumed, SIGKILL at once.
    pub fn can_kill(self) -> bool {
        self != Self::Stopped
    }

    /// Pause stops a running container.
    pub fn can_pause(self) -> bool {
        self == Self::Running
    }

    /// Resume lets a paused one go on.
    pub fn can_resume(self) -> bool {
        self == Self::Paused
    }

    /// Limits can change as long as somebody lives under them.
    pub fn can_update(self) -> bool {
        self != Self::Stopped
    }

    /// Delete ends what has ended or never began; a running container has to be killed first.
    pub fn can_delete(self) -> bool {
        matches!(self, Self::Created | Self::Stopped)
    }

    /// Turns an answer into a result that says what was refused.
    pub fn require(self, allowed: bool, container: &str, verb: &'static str) -> Result<(), Error> {
        if allowed {
            return Ok(());
        }
        Err(Error::State { container: container.to_owned(), verb, status: self })
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{Created, Paused, Running, Stopped};
    use super::*;

    #[test]
    fn each_verb_has_its_states() {
        type Verb = fn(Status) -> bool;
        let table: [(Verb, [bool; 4]); 7] = [
            (Status::can_start, [true, false, false, false]),
            (Status::can_exec, [false, true, false, false]),
            (Status::can_kill, [true, true, true, false]),
            (Status::can_pause, [false, true, false, false]),
            (Status::can_resume, [false, false, true, false]),
            (Status::can_update, [true, true, true, false]),
            (Status::can_delete, [true, false, false, true]),
        ];
        for (verb, expected) in table {
            assert_eq!([Created, Running, Paused, Stopped].map(verb), expected);
        }
    }

    #[test]
    fn a_refusal_names_container_verb_and_state() {
        let error = Running.require(Running.can_start(), "web", "start").unwrap_err();
        assert_eq!(error.to_string(), "cannot start container web: it is running");
    }
}
