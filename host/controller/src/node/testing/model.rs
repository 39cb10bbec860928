//! What the node should do, in a hundred lines: no keepers, no journal, no time.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Kind::{self, AlreadyExists, FailedPrecondition, NotFound};
use crate::node::sandbox::Standing;
use crate::node::task::Phase;

/// What a call answers.
pub type Answer = Result<(), Kind>;

/// A container: where it is, its init, its added processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub sandbox: String,
    pub init: Phase,
    pub execs: BTreeMap<String, Phase>,
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub sandboxes: BTreeMap<String, Standing>,
    pub containers: BTreeMap<String, Container>,
    /// Thousandths of a processor that all containers of a sandbox may use, where an Update has limited them.
    pub limits: BTreeMap<String, u64>,
    /// Names of sandboxes that the store has a record of; it has nothing to do with those that there are.
    pub records: BTreeSet<String>,
}

fn unless(refused: bool, kind: Kind) -> Answer {
    if refused { Err(kind) } else { Ok(()) }
}

impl Model {
    pub fn run_sandbox(&mut self, id: &str) -> Answer {
        unless(self.sandboxes.contains_key(id), AlreadyExists)?;
        self.sandboxes.insert(id.into(), Standing::Ready);
        Ok(())
    }

    pub fn stop_sandbox(&mut self, id: &str) -> Answer {
        *self.sandboxes.get_mut(id).ok_or(NotFound)? = Standing::Stopped;
        self.containers.values_mut().filter(|container| container.sandbox == id).for_each(Container::end);
        Ok(())
    }

    pub fn shutdown_sandbox(&mut self, id: &str) -> Answer {
        self.sandboxes.remove(id);
        self.limits.remove(id);
        self.containers.retain(|_, container| container.sandbox != id);
        Ok(())
    }

    pub fn stand(&mut self, id: &str, to: Standing) -> Answer {
        let standing = self.sandboxes.get_mut(id).ok_or(NotFound)?;
        unless(*standing == Standing::Stopped, FailedPrecondition)?;
        *standing = to;
        Ok(())
    }

    pub fn update_sandbox(&self, id: &str) -> Answer {
        unless(*self.sandboxes.get(id).ok_or(NotFound)? == Standing::Stopped, FailedPrecondition)
    }

    /// None: all that its VM has.
    pub fn limit_sandbox(&mut self, id: &str, millis: Option<u64>) -> Answer {
        unless(*self.sandboxes.get(id).ok_or(NotFound)? != Standing::Ready, FailedPrecondition)?;
        match millis {
            Some(millis) => self.limits.insert(id.into(), millis),
            None => self.limits.remove(id),
        };
        Ok(())
    }

    pub fn keep_record(&mut self, id: &str) -> Answer {
        unless(!self.records.insert(id.into()), AlreadyExists)
    }

    pub fn change_record(&self, id: &str) -> Answer {
        unless(!self.records.contains(id), NotFound)
    }

    pub fn drop_record(&mut self, id: &str) -> Answer {
        unless(!self.records.remove(id), NotFound)
    }

    pub fn create(&mut self, id: &str, sandbox: Option<&str>) -> Answer {
        unless(self.containers.contains_key(id), AlreadyExists)?;
        match sandbox {
            None => self.run_sandbox(id)?,
            Some(sandbox) => {
                let standing = self.sandboxes.get(sandbox).ok_or(NotFound)?;
                unless(*standing != Standing::Ready, FailedPrecondition)?;
            }
        }
        let sandbox = sandbox.unwrap_or(id).to_owned();
        self.containers
            .insert(id.into(), Container { sandbox, init: Phase::Created, execs: BTreeMap::new() });
        Ok(())
    }

    /// Who is meant, and whether the guest can be asked.
    fn container(&mut self, id: &str) -> Result<(&mut Container, Answer), Kind> {
        let container = self.containers.get_mut(id).ok_or(NotFound)?;
        let ready = self.sandboxes.get(&container.sandbox) == Some(&Standing::Ready);
        Ok((container, unless(!ready, FailedPrecondition)))
    }

    /// What a guest has a part in, and its keeper alone can do when the VM is over, is not done while the VM stands still.
    fn moving(&self, id: &str) -> Answer {
        let container = self.containers.get(id).ok_or(NotFound)?;
        unless(self.sandboxes.get(&container.sandbox) == Some(&Standing::Paused), FailedPrecondition)
    }

    pub fn start(&mut self, id: &str) -> Answer {
        let (container, guest) = self.container(id)?;
        unless(container.init != Phase::Created, FailedPrecondition)?;
        guest?;
        container.init = Phase::Running;
        Ok(())
    }

    pub fn kill(&mut self, id: &str) -> Answer {
        let (container, guest) = self.container(id)?;
        unless(container.init == Phase::Stopped, NotFound)?;
        guest?;
        container.end();
        Ok(())
    }

    pub fn freeze(&mut self, id: &str, from: Phase, to: Phase) -> Answer {
        let (container, guest) = self.container(id)?;
        unless(container.init != from, FailedPrecondition)?;
        guest?;
        container.init = to;
        Ok(())
    }

    pub fn delete(&mut self, id: &str, force: bool) -> Answer {
        self.moving(id)?;
        let (container, guest) = self.container(id)?;
        if force && matches!(container.init, Phase::Running | Phase::Paused) {
            guest?;
            container.end();
        }
        unless(!matches!(container.init, Phase::Created | Phase::Stopped), FailedPrecondition)?;
        let sandbox = container.sandbox.clone();
        self.containers.remove(id);
        if sandbox == id {
            self.sandboxes.remove(id);
            self.limits.remove(id);
        }
        Ok(())
    }

    pub fn add(&mut self, id: &str, exec: &str) -> Answer {
        let (container, guest) = self.container(id)?;
        unless(!matches!(container.init, Phase::Created | Phase::Running), FailedPrecondition)?;
        unless(container.execs.contains_key(exec), AlreadyExists)?;
        guest?;
        container.execs.insert(exec.into(), Phase::Created);
        Ok(())
    }

    pub fn start_exec(&mut self, id: &str, exec: &str) -> Answer {
        let (container, guest) = self.container(id)?;
        let phase = container.execs.get_mut(exec).ok_or(NotFound)?;
        unless(*phase != Phase::Created || container.init != Phase::Running, FailedPrecondition)?;
        guest?;
        *phase = Phase::Running;
        Ok(())
    }

    pub fn exec(&mut self, id: &str, exec: &str) -> Answer {
        self.add(id, exec)?;
        let started = self.start_exec(id, exec);
        if let (Err(_), Some(container)) = (started, self.containers.get_mut(id)) {
            container.execs.remove(exec);
        }
        started
    }

    pub fn kill_exec(&mut self, id: &str, exec: &str) -> Answer {
        let (container, guest) = self.container(id)?;
        let phase = container.execs.get_mut(exec).ok_or(NotFound)?;
        unless(*phase == Phase::Stopped, NotFound)?;
        unless(*phase == Phase::Created, FailedPrecondition)?;
        guest?;
        *phase = Phase::Stopped;
        Ok(())
    }

    pub fn delete_exec(&mut self, id: &str, exec: &str) -> Answer {
        let moving = self.moving(id);
        let (container, _) = self.container(id)?;
        let phase = container.execs.get(exec).ok_or(NotFound)?;
        unless(*phase == Phase::Running, FailedPrecondition)?;
        moving?;
        container.execs.remove(exec);
        Ok(())
    }

    /// The keeper or the VM of a sandbox dies, if it has one.
    pub fn lose(&mut self, id: &str) {
        if self.sandboxes.get(id).is_some_and(|standing| *standing != Standing::Stopped) {
            let _ = self.stop_sandbox(id);
        }
    }

    /// A process ends by itself, if it runs.
    pub fn ends(&mut self, id: &str, exec: Option<&str>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        match exec {
            None => container.end(),
            Some(exec) => {
                if let Some(phase) = container.execs.get_mut(exec).filter(|phase| **phase == Phase::Running) {
                    *phase = Phase::Stopped;
                }
            }
        }
    }
}

impl Container {
    fn end(&mut self) {
        self.init = Phase::Stopped;
        self.execs.values_mut().for_each(|phase| *phase = Phase::Stopped);
    }

    /// As a caller sees it: what runs in a frozen container is frozen.
    pub fn shown(&self) -> Vec<(Option<String>, Phase)> {
        let frozen = |phase| match (self.init, phase) {
            (Phase::Paused, Phase::Running) => Phase::Paused,
            _ => phase,
        };
        let execs = self.execs.iter().map(|(name, phase)| (Some(name.clone()), frozen(*phase)));
        std::iter::once((None, self.init)).chain(execs).collect()
    }
}
