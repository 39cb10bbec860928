//! Where a process of a container stands and what may be asked of it there. Pure: deciding is apart from doing.
//!
//! ```text
//!   init:                 Created ─▶ Running ⇄ Paused ─▶ Stopped
//!   exec:  Added ──────▶ Starting ──▶ Running ─────────▶ Stopped
//! ```

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// An exec that was described and not started.
    Added,
    /// An exec that the guest sets up.
    Starting,
    /// An init that waits for Start.
    Created,
    /// It runs.
    Running,
    /// Its container is frozen.
    Paused,
    /// It has ended; its status is kept.
    Stopped,
}

/// What can be asked of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Let it run.
    Start,
    /// Add another process to the container. Asked of init.
    Exec,
    /// Send a signal.
    Kill,
    /// Freeze the container. Asked of init.
    Pause,
    /// Thaw it. Asked of init.
    Resume,
    /// Set the terminal's size.
    Resize,
    /// End the input.
    CloseIo,
    /// Change limits. Asked of init.
    Update,
    /// Join input and output.
    Attach,
    /// Forget it.
    Delete,
}

impl Verb {
    /// Whether the guest has a part in it, or is about to: what is added is to be started.
    pub fn needs_guest(self) -> bool {
        !matches!(self, Self::CloseIo | Self::Attach)
    }
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskRefusal {
    /// Kill of what has ended. The text is containerd's own.
    #[error("process already finished")]
    AlreadyFinished,
    /// Anything else that the state forbids.
    #[error("cannot {verb} a process that {state}")]
    NotNow {
        /// What was asked.
        verb: &'static str,
        /// Where the process stands.
        state: &'static str,
    },
    /// A process cannot start when its container's init does not run.
    #[error("cannot start a process in a container whose init {0}")]
    InitNotRunning(&'static str),
    /// Only a container as a whole can do that.
    #[error("cannot {0} a single process: name the container alone")]
    InitOnly(&'static str),
    /// There is no terminal's input.
    #[error("the process was started without input")]
    NoInput,
}

/// Decides about `verb` for the container's init.
pub fn accept_init(init: Phase, verb: Verb) -> Result<(), TaskRefusal> {
    use Phase::{Created, Paused, Running, Stopped};
    let fine = match verb {
        Verb::Start => init == Created,
        Verb::Exec => matches!(init, Created | Running),
        Verb::Kill | Verb::Resize | Verb::Update => matches!(init, Created | Running | Paused),
        Verb::Pause => init == Running,
        Verb::Resume => init == Paused,
        Verb::Attach => matches!(init, Created | Running | Paused),
        Verb::CloseIo => true,
        Verb::Delete => matches!(init, Created | Stopped),
    };
    refuse_unless(fine, init, verb)
}

/// Decides about `verb` for an added process of a container whose init stands at `init`.
pub fn accept_exec(init: Phase, exec: Phase, verb: Verb) -> Result<(), TaskRefusal> {
    use Phase::{Added, Running, Stopped};
    let fine = match verb {
        Verb::Start if exec == Added && init != Running => {
            return Err(TaskRefusal::InitNotRunning(describe(init)));
        }
        Verb::Start => exec == Added,
        Verb::Kill | Verb::Resize | Verb::Attach => exec == Running,
        Verb::CloseIo => exec != Added,
        Verb::Delete => matches!(exec, Added | Stopped),
        Verb::Exec | Verb::Pause | Verb::Resume | Verb::Update => {
            return Err(TaskRefusal::InitOnly(name(verb)));
        }
    };
    refuse_unless(fine, exec, verb)
}

fn refuse_unless(fine: bool, phase: Phase, verb: Verb) -> Result<(), TaskRefusal> {
    match (fine, phase, verb) {
        (true, ..) => Ok(()),
        (false, Phase::Stopped, Verb::Kill) => Err(TaskRefusal::AlreadyFinished),
        (false, ..) => Err(TaskRefusal::NotNow { verb: name(verb), state: describe(phase) }),
    }
}

fn name(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "start",
        Verb::Exec => "add a process beside",
        Verb::Kill => "signal",
        Verb::Pause => "pause",
        Verb::Resume => "resume",
        Verb::Resize => "resize the terminal of",
        Verb::CloseIo => "close the input of",
        Verb::Update => "update the limits of",
        Verb::Attach => "attach to",
        Verb::Delete => "delete",
    }
}

fn describe(phase: Phase) -> &'static str {
    match phase {
        Phase::Added => "was not started",
        Phase::Starting => "is being started",
        Phase::Created => "was created and not started",
        Phase::Running => "is running",
        Phase::Paused => "is paused",
        Phase::Stopped => "has stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBS: [Verb; 10] = [
        Verb::Start,
        Verb::Exec,
        Verb::Kill,
        Verb::Pause,
        Verb::Resume,
        Verb::Resize,
        Verb::CloseIo,
        Verb::Update,
        Verb::Attach,
        Verb::Delete,
    ];

    /// One column a verb, in the order of [`VERBS`]: `y` may happen, `-` may not.
    fn table(row: &str) -> impl Iterator<Item = (Verb, bool)> {
        let columns: Vec<_> = row.split_whitespace().map(|mark| mark == "y").collect();
        assert_eq!(columns.len(), VERBS.len());
        VERBS.into_iter().zip(columns)
    }

    #[test]
    fn every_verb_on_init_in_every_state() {
        //                       start exec kill pause resume resize close update attach delete
        for (phase, row) in [
            (Phase::Created, "      y    y    y    -     -      y      y     y      y      y"),
            (Phase::Running, "      -    y    y    y     -      y      y     y      y      -"),
            (Phase::Paused, "       -    -    y    -     y      y      y     y      y      -"),
            (Phase::Stopped, "      -    -    -    -     -      -      y     -      -      y"),
        ] {
            for (verb, fine) in table(row) {
                assert_eq!(accept_init(phase, verb).is_ok(), fine, "{verb:?} on an init that is {phase:?}");
            }
        }
    }

    #[test]
    fn every_verb_on_an_exec_in_every_state() {
        //                       start exec kill pause resume resize close update attach delete
        for (phase, row) in [
            (Phase::Added, "        y    -    -    -     -      -      -     -      -      y"),
            (Phase::Starting, "     -    -    -    -     -      -      y     -      -      -"),
            (Phase::Running, "      -    -    y    -     -      y      y     -      y      -"),
            (Phase::Stopped, "      -    -    -    -     -      -      y     -      -      y"),
        ] {
            for (verb, fine) in table(row) {
                let accepted = accept_exec(Phase::Running, phase, verb);
                assert_eq!(accepted.is_ok(), fine, "{verb:?} on an exec that is {phase:?}");
            }
        }
    }

    #[test]
    fn an_exec_starts_only_beside_a_running_init() {
        for init in [Phase::Created, Phase::Paused, Phase::Stopped] {
            let refusal = accept_exec(init, Phase::Added, Verb::Start).unwrap_err();
            assert!(matches!(refusal, TaskRefusal::InitNotRunning(_)), "{init:?}");
        }
    }

    #[test]
    fn a_signal_to_what_has_ended_says_so_in_containerds_words() {
        let refusals = [
            accept_init(Phase::Stopped, Verb::Kill).unwrap_err(),
            accept_exec(Phase::Running, Phase::Stopped, Verb::Kill).unwrap_err(),
        ];
        assert!(refusals.iter().all(|refusal| refusal.to_string() == "process already finished"));
    }

    /// What happens to an init: something asked of it, or its own end.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Asked(Verb),
        Ends,
    }

    /// Where an init stands after `step`; `None` once it was deleted.
    fn after(phase: Phase, step: Step) -> Option<Phase> {
        match step {
            Step::Ends => Some(Phase::Stopped),
            Step::Asked(verb) if accept_init(phase, verb).is_err() => Some(phase),
            Step::Asked(Verb::Start | Verb::Resume) => Some(Phase::Running),
            Step::Asked(Verb::Pause) => Some(Phase::Paused),
            Step::Asked(Verb::Delete) => None,
            Step::Asked(_) => Some(phase),
        }
    }

    /// Tells every story of `left` more steps and checks each.
    fn tell(phase: Phase, story: &mut Vec<Step>, left: usize) {
        if left == 0 {
            return;
        }
        for step in VERBS.map(Step::Asked).into_iter().chain([Step::Ends]) {
            let ended = story.iter().any(|step| matches!(step, Step::Ends));
            story.push(step);
            let next = after(phase, step);
            if ended {
                assert!(matches!(next, None | Some(Phase::Stopped)), "alive again after its end: {story:?}");
            }
            if next.is_none() {
                assert!(matches!(phase, Phase::Created | Phase::Stopped), "deleted while it ran: {story:?}");
            }
            if matches!((phase, next), (before, Some(Phase::Created)) if before != Phase::Created) {
                panic!("created a second time: {story:?}");
            }
            if let Some(next) = next {
                tell(next, story, left - 1);
            }
            story.pop();
        }
    }

    #[test]
    fn no_story_of_five_steps_brings_an_init_back_or_deletes_it_alive() {
        tell(Phase::Created, &mut Vec::new(), 5);
    }
}
