//! What a step asks for, as a value: drawn by chance, answered by the model.

use std::fmt;

use theca_controller::node::sandbox::Standing;
use theca_controller::node::task::Phase;
use theca_controller::node::testing::chance::Chance;
use theca_controller::node::testing::model::{Answer, Model};

use crate::doors::Door;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Of a container.
    Create,
    Start,
    Pause,
    Resume,
    Kill,
    Delete,
    /// Of an added process: to add it and start it, at an interface that makes up its name.
    Exec,
    /// The same in two steps, at an interface that is told a name.
    Add,
    StartAdded,
    KillAdded,
    DeleteAdded,
    /// Of a sandbox.
    PauseSandbox,
    ResumeSandbox,
    LabelSandbox,
    LimitSandbox,
    /// To limit it, after somebody has asked for less and has gone away.
    LimitAfterAnother,
    StopSandbox,
    ShutdownSandbox,
    RunSandbox,
    /// Of a record of a sandbox.
    KeepRecord,
    ChangeRecord,
    DropRecord,
}

use Verb::*;

/// How often each is drawn.
const OFTEN: [(usize, Verb); 19] = [
    (3, Create),
    (3, Start),
    (2, Pause),
    (2, Resume),
    (1, Kill),
    (1, Delete),
    (2, Exec),
    (2, Add),
    (2, StartAdded),
    (1, KillAdded),
    (1, DeleteAdded),
    (1, PauseSandbox),
    (1, ResumeSandbox),
    (1, LabelSandbox),
    (1, LimitSandbox),
    (1, LimitAfterAnother),
    (1, KeepRecord),
    (1, ChangeRecord),
    (1, DropRecord),
];
/// In a story in which sandboxes end, these too.
const STORMY: [(usize, Verb); 3] = [(2, StopSandbox), (1, ShutdownSandbox), (1, RunSandbox)];

const OF_CONTAINERS: [Verb; 11] =
    [Create, Start, Pause, Resume, Kill, Delete, Exec, Add, StartAdded, KillAdded, DeleteAdded];

/// A call.
#[derive(Clone, Debug)]
pub struct Step {
    pub verb: Verb,
    pub door: Door,
    pub sandbox: &'static str,
    pub container: &'static str,
    /// The model's name of an added process.
    pub process: String,
    /// It ends by itself; else it has to be killed.
    pub brief: bool,
    /// Thousandths of a processor that a sandbox is limited to.
    pub millis: u64,
}

impl Verb {
    pub fn draw(chance: &mut Chance, stormy: bool) -> Self {
        let of: Vec<_> = OFTEN.into_iter().chain(STORMY.into_iter().filter(|_| stormy)).collect();
        let mut left = chance.below(of.iter().map(|(often, _)| often).sum());
        for (often, verb) in of {
            match left.checked_sub(often) {
                Some(less) => left = less,
                None => return verb,
            }
        }
        unreachable!("the number is below the sum")
    }

    /// Whether it is asked of a container, or of a process in one.
    pub fn is_of_container(self) -> bool {
        OF_CONTAINERS.contains(&self)
    }

    /// Interfaces that offer it.
    pub fn doors(self) -> &'static [Door] {
        match self {
            Create | Pause | Resume | Kill => {
                &[Door::Api, Door::Execution, Door::Tasks, Door::Keeper, Door::Shim]
            }
            Start | Delete => &[Door::Execution, Door::Tasks, Door::Keeper, Door::Shim],
            KillAdded => &[Door::Api, Door::Execution, Door::Tasks, Door::Keeper],
            DeleteAdded => &[Door::Execution, Door::Tasks, Door::Keeper],
            Exec => &[Door::Api, Door::Execution, Door::Tasks],
            Add | StartAdded => &[Door::Keeper],
            _ => &[Door::Tasks],
        }
    }
}

impl Step {
    /// What the model says to it.
    pub fn told_to(&self, model: &mut Model) -> Answer {
        let (s, c, process) = (self.sandbox, self.container, self.process.as_str());
        match self.verb {
            Create if self.door == Door::Api => model.create(c, Some(s)).and_then(|()| model.start(c)),
            Create => model.create(c, Some(s)),
            Start => model.start(c),
            Pause => model.freeze(c, Phase::Running, Phase::Paused),
            Resume => model.freeze(c, Phase::Paused, Phase::Running),
            Kill => model.kill(c),
            // The Shim's ends first what runs.
            Delete => model.delete(c, self.door == Door::Shim),
            Exec => model.exec(c, process),
            Add => model.add(c, process),
            StartAdded => model.start_exec(c, process),
            KillAdded => model.kill_exec(c, process),
            DeleteAdded => model.delete_exec(c, process),
            PauseSandbox => model.stand(s, Standing::Paused),
            ResumeSandbox => model.stand(s, Standing::Ready),
            LabelSandbox => model.update_sandbox(s),
            LimitSandbox | LimitAfterAnother => model.limit_sandbox(s, Some(self.millis)),
            StopSandbox => model.stop_sandbox(s),
            ShutdownSandbox => model.shutdown_sandbox(s),
            RunSandbox => model.run_sandbox(s),
            KeepRecord => model.keep_record(s),
            ChangeRecord => model.change_record(s),
            DropRecord => model.drop_record(s),
        }
    }

    /// The program of a process that is added.
    pub fn args(&self) -> Vec<String> {
        let args: &[&str] = if self.brief { &["sh", "-c", "exit 3"] } else { &["sleep", "1000"] };
        args.iter().map(|&word| word.to_owned()).collect()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, door, sandbox, container, process, brief, millis } = self;
        match verb {
            Create | Start | Pause | Resume | Kill | Delete => {
                write!(f, "{verb:?} {container} in {sandbox} by {door:?}")
            }
            Exec | Add => {
                let ends = if *brief { ", which ends by itself," } else { "" };
                write!(f, "{verb:?} {process}{ends} to {container} in {sandbox} by {door:?}")
            }
            StartAdded | KillAdded | DeleteAdded => {
                write!(f, "{verb:?} {process} of {container} in {sandbox} by {door:?}")
            }
            LimitSandbox | LimitAfterAnother => write!(f, "{verb:?} {sandbox} to {millis}"),
            _ => write!(f, "{verb:?} {sandbox}"),
        }
    }
}
