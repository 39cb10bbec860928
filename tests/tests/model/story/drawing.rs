//! What a story asks for next, by chance.

use theca_controller::node::sandbox::Standing;

use super::{CONTAINERS, SANDBOXES, Story};
use crate::doors::Door;
use crate::step::{Step, Verb};

/// Names of processes where the caller gives them.
const EXECS: [&str; 2] = ["e0", "e1"];
/// Limits of processors.
const MILLIS: [u64; 3] = [500, 700, 900];
/// Steps that are drawn until one changes something.
const DRAWN: usize = 20;

impl Story<'_> {
    /// Mostly what changes something: most of what could be asked for is refused, by the same few sentences.
    pub(super) fn draw(&mut self, stormy: bool) -> Step {
        let mut step = self.any(stormy);
        if self.chance.below(4) == 0 {
            return step;
        }
        for _ in 0..DRAWN {
            let mut model = self.model.clone();
            if step.told_to(&mut model).is_ok() && model != self.model {
                break;
            }
            step = self.any(stormy);
        }
        step
    }

    fn any(&mut self, stormy: bool) -> Step {
        let verb = Verb::draw(&mut self.chance, stormy);
        let (s, mut container) = (self.chance.pick(&SANDBOXES), self.chance.pick(&CONTAINERS));
        let there = CONTAINERS.into_iter().filter(|name| self.model.containers.contains_key(*name));
        let there: Vec<_> = there.collect();
        // Of what is not there little can be learnt.
        if verb != Verb::Create && !there.is_empty() && self.chance.below(4) != 0 {
            container = self.chance.pick(&there);
        }
        // Where the container is, or would be.
        let home = self.model.containers.get(container).map(|there| there.sandbox.as_str());
        let at = SANDBOXES.into_iter().find(|sandbox| home == Some(sandbox)).unwrap_or(s);
        let process = match verb {
            Verb::Add | Verb::StartAdded => self.chance.pick(&EXECS).to_owned(),
            Verb::KillAdded | Verb::DeleteAdded => self.one_of(container),
            _ => self.nameless(),
        };
        let (brief, millis) = (self.chance.below(3) == 0, MILLIS[self.chance.below(MILLIS.len())]);
        let known = |door: &&Door| self.knows(**door, at, container, &process);
        let doors: Vec<_> = verb.doors().iter().filter(known).copied().collect();
        let Some(last) = doors.len().checked_sub(1) else {
            // None that can be asked has a name for it.
            let (verb, door, process) = (Verb::Exec, Door::Tasks, self.nameless());
            return Step { verb, door, sandbox: at, container, process, brief, millis };
        };
        let door = doors[self.chance.below(last + 1)];
        // A keeper knows nothing of the other's containers, so it is asked where the container is.
        let anywhere = verb == Verb::Create && ![Door::Keeper, Door::Shim].contains(&door);
        let sandbox = if anywhere || !verb.is_of_container() { s } else { at };
        Step { verb, door, sandbox, container, process, brief, millis }
    }

    /// The name that the model has for a process whose name thecad makes up.
    fn nameless(&self) -> String {
        format!("nameless-{}", self.steps.len())
    }

    /// A process that was added to a container, or one that nobody knows.
    fn one_of(&mut self, container: &str) -> String {
        let execs = self.model.containers.get(container).into_iter().flat_map(|there| there.execs.keys());
        let names: Vec<_> = execs.cloned().chain(["nobody".to_owned()]).collect();
        names[self.chance.below(names.len())].clone()
    }

    /// Whether an interface can be asked about what is in this sandbox, and has a name for this process if it was added.
    fn knows(&self, door: Door, sandbox: &str, container: &str, process: &str) -> bool {
        let added = self.added.get(&(container.to_owned(), process.to_owned()));
        match door {
            // Its Delete ends init, and what goes with its init is deleted by two then.
            Door::Shim => self.has_keeper(sandbox) && !self.fleeting.contains(container),
            Door::Keeper => self.has_keeper(sandbox) && added.is_none_or(|added| added.exec.is_some()),
            _ => added.is_none_or(|added| added.pid.is_some()),
        }
    }

    pub(super) fn has_keeper(&self, sandbox: &str) -> bool {
        self.model.sandboxes.get(sandbox).is_some_and(|standing| *standing != Standing::Stopped)
    }
}
