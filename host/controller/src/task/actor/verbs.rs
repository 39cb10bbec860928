//! What is asked of a container and its processes: checked against the state, done by the agent, and put on record.

use tokio::time::timeout;
use tracing::warn;

use super::Task;
use crate::agent::{AgentError, CgroupFiles, Code, Target};
use crate::error::{Error, Result};
use crate::sandbox::history::Happening;
use crate::task::create::explain;
use crate::task::process::{ProcessState, Stage};
use crate::task::state::{Phase, TaskRefusal, Verb};
use crate::task::{AttachPaths, DEATH, Exit, Which};

pub(super) const SIGKILL: u32 = 9;

impl Task {
    /// Lets init run.
    pub(super) async fn start_init(&mut self) -> Result<u32> {
        self.accept(&None, Verb::Start)?;
        if let Err(error) = self.vm.agent.start(&self.id).await {
            return Err(explain(&self.vm, error).await);
        }
        self.init.enter(Stage::Running);
        self.timeline.mark("task_started");
        self.tell(&None, Happening::Started);
        Ok(self.vm.vmm.pid())
    }

    pub(super) async fn kill(&self, which: &Which, signal: u32, all: bool) -> Result<()> {
        self.accept(which, Verb::Kill)?;
        let target = match (all, self.process(which)?.guest_pid()) {
            (true, _) => Target::All,
            (false, Some(pid)) => Target::Process(pid),
            (false, None) => return Err(TaskRefusal::AlreadyFinished.into()),
        };
        let killed = self.vm.agent.kill(&self.id, target, signal).await;
        if signal == SIGKILL {
            self.give_up_readers(which, all);
        }
        match killed {
            // It has ended, and is not told to have while its output is on its way.
            Err(AgentError::Refused { code: Code::NotFound, .. }) => Err(TaskRefusal::AlreadyFinished.into()),
            answer => self.told(answer).await,
        }
    }

    /// Whoever kills does not want to wait for somebody who does not read. With init everything dies.
    fn give_up_readers(&self, which: &Which, all: bool) {
        let everyone = all || which.is_none();
        let execs = self.execs.iter().map(|(exec, process)| (Some(exec), process));
        for (exec, process) in execs.chain([(None, &self.init)]) {
            if let ProcessState::Live(_, live) = &process.state
                && (everyone || exec == which.as_ref())
            {
                live.stdio.unwanted();
            }
        }
    }

    pub(super) async fn pause(&mut self) -> Result<()> {
        self.accept(&None, Verb::Pause)?;
        self.told(self.vm.agent.pause(&self.id).await).await?;
        self.init.enter(Stage::Paused);
        self.tell(&None, Happening::Paused);
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<()> {
        self.accept(&None, Verb::Resume)?;
        self.told(self.vm.agent.resume(&self.id).await).await?;
        self.init.enter(Stage::Running);
        self.tell(&None, Happening::Resumed);
        Ok(())
    }

    pub(super) async fn resize(&self, which: &Which, width: u32, height: u32) -> Result<()> {
        self.accept(which, Verb::Resize)?;
        let process = self.process(which)?;
        match process.guest_pid() {
            Some(pid) if process.io.terminal => {
                self.told(self.vm.agent.resize(&self.id, pid, width, height).await).await
            }
            _ => Ok(()),
        }
    }

    pub(super) fn close_io(&mut self, which: &Which) -> Result<()> {
        self.accept(which, Verb::CloseIo)?;
        if let Some(stdio) = self.process_mut(which)?.stdio_mut() {
            stdio.close_input();
        }
        Ok(())
    }

    pub(super) async fn update(&self, resources: Vec<u8>) -> Result<()> {
        self.accept(&None, Verb::Update)?;
        self.told(self.vm.agent.update(&self.id, resources).await).await
    }

    /// What the guest counts goes with it.
    pub(super) async fn stats(&self) -> Result<CgroupFiles> {
        self.awake()?;
        tokio::select! {
            biased;
            end = self.vm.vmm.ended() => Err(Error::VmEnded(end)),
            files = self.vm.agent.stats(&self.id) => match files {
                Ok(files) => Ok(files),
                Err(error) => Err(explain(&self.vm, error).await),
            },
        }
    }

    pub(super) fn attach(&mut self, which: &Which, paths: &AttachPaths) -> Result<bool> {
        self.accept(which, Verb::Attach)?;
        let process = self.process_mut(which)?;
        if let Some(live) = process.live_mut() {
            live.stdio.attach(paths)?;
        }
        Ok(process.io.terminal)
    }

    /// [`Task::delete`], before a pause that is asked for meanwhile.
    pub(super) async fn delete_undisturbed(&mut self) -> Result<(u32, Exit)> {
        let _busy = self.vm.vmm.busy();
        self.delete().await
    }

    /// Forgets the task, in the guest too. What the guest fails to tidy up is logged: the task is gone all the same.
    async fn delete(&mut self) -> Result<(u32, Exit)> {
        self.accept(&None, Verb::Delete)?;
        if self.init.phase() == Phase::Created {
            self.kill(&None, SIGKILL, true).await?;
            let dead = async {
                while self.init.exit().is_none() {
                    match self.ends.join_next().await {
                        Some(Ok((which, ended))) => self.stopped(&which, ended.exit),
                        _ => break,
                    }
                }
            };
            if timeout(DEATH, dead).await.is_err() {
                warn!(container = %self.id, "init does not die");
            }
        }
        let exit = self.init.exit().ok_or(TaskRefusal::NotNow { verb: "delete", state: "does not end" })?;
        if self.keep_guest_state && self.vm.vmm.end().is_none() {
            let tidied = async {
                self.vm.agent.delete(&self.id, None).await?;
                self.vm.agent.release(&self.id).await
            };
            if let Err(error) = tidied.await {
                warn!(container = %self.id, %error, "the guest keeps something of a deleted task");
            }
        }
        for process in self.execs.values().chain([&self.init]) {
            self.remotes.release(&process.io);
        }
        Ok((self.vm.vmm.pid(), exit))
    }

    async fn told(&self, answer: std::result::Result<(), AgentError>) -> Result<()> {
        match answer {
            Ok(()) => Ok(()),
            Err(error) => Err(explain(&self.vm, error).await),
        }
    }
}
