//! One process of a container, from Create or Exec to Delete.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::stdio::{Drain, IoRequest, Stdio};
use super::{Exit, Kept, state::Phase};
use crate::agent::{AgentError, CgroupFiles};
use crate::id::ContainerId;
use crate::sandbox::boot::Vm;
use crate::vmm::VmEnd;
use crate::vmm::end::AGENT_LOST;

/// Status of a process whose VM went away under it: as if it had been killed.
pub const LOST: u32 = 137;
/// Status of a process that SIGKILL has ended, sent by whomever.
const KILLED: u32 = 137;
/// How long the reason of such an end may take to find out.
const REASON: Duration = Duration::from_secs(5);
/// Status of a process of which the agent cannot tell how it ended.
const UNKNOWN: u32 = 255;
/// After a process's end its streams mostly end at once. If they do not, the agent is asked for the reason.
const STREAMS_END: Duration = Duration::from_millis(200);
/// A VM whose agent cannot be reached is on its way down; after this it is helped.
const DYING: Duration = Duration::from_secs(2);

/// A process and what is kept of it.
#[derive(Debug)]
pub struct Process {
    /// Its input and output, as asked.
    pub io: IoRequest,
    /// An OCI `Process` as JSON; of an exec that has started, what is told of it.
    pub spec: Vec<u8>,
    /// Until when it is known, for an exec.
    pub kept: Kept,
    /// Where it stands.
    pub state: ProcessState,
    /// Seen by whoever waits.
    exit: watch::Sender<Option<Exit>>,
    /// Its output, until someone watches for its end.
    pub drain: Option<Drain>,
}

/// Where a process stands, with what it has there.
#[derive(Debug)]
pub enum ProcessState {
    /// An exec that was described.
    Added,
    /// An exec that the guest sets up, which may take a while.
    Starting(Stdio),
    /// It exists in the guest.
    Live(Stage, Live),
    /// It has ended, and had this pid in the guest.
    Stopped(u32, Exit),
}

/// Stages of a process that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for Start.
    Created,
    /// Runs.
    Running,
    /// Is frozen.
    Paused,
}

/// What a process has while it exists.
#[derive(Debug)]
pub struct Live {
    /// Its pid in the guest: an opaque name for the agent, of no meaning on the host.
    pub guest_pid: u32,
    /// Its streams.
    pub stdio: Stdio,
}

/// How a process ended, and with it perhaps others.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// Processes of its container that were killed for memory so far; counted only when it may have been one.
    pub memory_kills: u64,
}

impl Process {
    /// An exec that was described.
    pub fn added(io: IoRequest, spec: Vec<u8>, kept: Kept) -> Self {
        Self { io, spec, kept, state: ProcessState::Added, exit: watch::Sender::new(None), drain: None }
    }

    /// An init that exists.
    pub fn live(io: IoRequest, spec: Vec<u8>, stage: Stage, live: Live, drain: Drain) -> Self {
        let (exit, kept) = (watch::Sender::new(None), Kept::default());
        Self { io, spec, kept, state: ProcessState::Live(stage, live), exit, drain: Some(drain) }
    }

    /// Lets others see its end through `exit`.
    pub fn publish_through(&mut self, exit: watch::Sender<Option<Exit>>) {
        self.exit = exit;
    }

    /// What it costs to keep what is told of it.
    pub fn bytes(&self) -> usize {
        let streams = [&self.io.stdin, &self.io.stdout, &self.io.stderr].into_iter().flatten();
        self.spec.len() + streams.map(|target| json!(target.text()).to_string().len()).sum::<usize>()
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match &self.state {
            ProcessState::Added => Phase::Added,
            ProcessState::Starting(_) => Phase::Starting,
            ProcessState::Live(Stage::Created, _) => Phase::Created,
            ProcessState::Live(Stage::Running, _) => Phase::Running,
            ProcessState::Live(Stage::Paused, _) => Phase::Paused,
            ProcessState::Stopped(..) => Phase::Stopped,
        }
    }

    /// What it has while it exists.
    pub fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            ProcessState::Live(_, live) => Some(live),
            _ => None,
        }
    }

    /// Its streams, as soon as there are any.
    pub fn stdio_mut(&mut self) -> Option<&mut Stdio> {
        match &mut self.state {
            ProcessState::Starting(stdio) => Some(stdio),
            ProcessState::Live(_, live) => Some(&mut live.stdio),
            _ => None,
        }
    }

    /// Its pid in the guest while it exists.
    pub fn guest_pid(&self) -> Option<u32> {
        match &self.state {
            ProcessState::Live(_, live) => Some(live.guest_pid),
            _ => None,
        }
    }

    /// Its pid in the guest, also after its end; 0 before it has started.
    pub fn guest_pid_ever(&self) -> u32 {
        match &self.state {
            ProcessState::Added | ProcessState::Starting(_) => 0,
            ProcessState::Live(_, live) => live.guest_pid,
            ProcessState::Stopped(guest_pid, _) => *guest_pid,
        }
    }

    /// Moves a process that exists to `stage`.
    pub fn enter(&mut self, next: Stage) {
        if let ProcessState::Live(stage, _) = &mut self.state {
            *stage = next;
        }
    }

    /// It has ended: its streams close and whoever waits hears of it.
    pub fn stop(&mut self, exit: Exit) {
        self.state = ProcessState::Stopped(self.guest_pid_ever(), exit);
        self.exit.send_replace(Some(exit));
    }

    /// How it ended.
    pub fn exit(&self) -> Option<Exit> {
        match &self.state {
            ProcessState::Stopped(_, exit) => Some(*exit),
            _ => None,
        }
    }

    /// Where its end will be seen.
    pub fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }
}

/// Waits for the end of a process and of its output. Never fails: a process whose VM is gone has ended too.
pub async fn ended(vm: Vm, container: ContainerId, guest_pid: u32, drain: Option<Drain>) -> Ended {
    let mut memory_kills = 0;
    let status = match vm.agent.wait(&container, guest_pid).await {
        Ok(KILLED) => {
            memory_kills = count_memory_kills(&vm, &container).await;
            if memory_kills > 0 {
                warn!(%container, guest_pid, "a process was killed, in a container that has run out of memory");
            }
            KILLED
        }
        Ok(status) => status.min(255),
        Err(AgentError::Refused { code, message, .. }) => {
            warn!(%container, guest_pid, ?code, message, "the agent does not tell how a process ended");
            UNKNOWN
        }
        Err(_) => {
            vm_over(&vm).await;
            LOST
        }
    };
    let at = SystemTime::now();
    if let Some(drain) = drain {
        drain.finish(output_written(&vm, &container, guest_pid)).await;
    }
    Ended { exit: Exit { status, at }, memory_kills }
}

/// Answers when the guest has sent all that the process wrote, or can never tell: then the streams' ends or its silence do.
async fn output_written(vm: &Vm, container: &ContainerId, guest_pid: u32) {
    sleep(STREAMS_END).await;
    match vm.agent.wait_for_output(container, guest_pid).await {
        Ok(()) | Err(AgentError::Refused { .. }) => {}
        Err(error) => {
            debug!(%container, guest_pid, %error, "the agent does not tell when all output is sent");
            std::future::pending().await
        }
    }
}

/// How many processes of the container the guest's kernel has killed for memory. No word from the guest is none.
async fn count_memory_kills(vm: &Vm, container: &ContainerId) -> u64 {
    match timeout(REASON, vm.agent.stats(container)).await {
        Ok(Ok(files)) => memory_kills(&files),
        _ => 0,
    }
}

/// The same, from counters that are at hand.
pub fn memory_kills(files: &CgroupFiles) -> u64 {
    let lines = files.iter().filter(|(name, _)| name == "memory.events").flat_map(|(_, text)| text.lines());
    lines.filter_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).next().unwrap_or(0)
}

/// Waits for the end of a VM whose agent cannot be reached, and brings it about if it does not come.
pub async fn vm_over(vm: &Vm) -> Arc<VmEnd> {
    match timeout(DYING, vm.vmm.ended()).await {
        Ok(end) => end,
        Err(_) => {
            vm.vmm.give_up(AGENT_LOST);
            vm.vmm.ended().await
        }
    }
}
