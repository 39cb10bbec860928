//! An agent that notes what it is asked and does what a test says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use crate::agent::{
    Agent, AgentError, CgroupFiles, Code, Connector, Greeting, GuestInfo, GuestSpec, Rootfs, StreamIds,
    Target,
};
use crate::id::ContainerId;
use crate::sandbox::allowance::Allowance;
use crate::vsock::Vsock;

/// Pids count up from here; the first init has it.
pub const FIRST_PID: u32 = 100;

#[derive(Debug)]
pub struct FakeAgent {
    calls: Mutex<Vec<String>>,
    refusals: Mutex<HashMap<&'static str, AgentError>>,
    delays: Mutex<HashMap<&'static str, Duration>>,
    next_pid: Mutex<u32>,
    /// Its clock, behind the host's.
    behind: Mutex<Duration>,
    exits: watch::Sender<HashMap<u32, u32>>,
    broken: watch::Sender<bool>,
    deaf: AtomicBool,
    /// The container that a process was killed in for memory, and how many in all.
    killed: watch::Sender<(String, u64)>,
}

impl FakeAgent {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            refusals: Mutex::default(),
            delays: Mutex::default(),
            next_pid: Mutex::new(FIRST_PID),
            behind: Mutex::default(),
            exits: watch::Sender::new(HashMap::new()),
            broken: watch::Sender::new(false),
            deaf: AtomicBool::new(false),
            killed: watch::Sender::default(),
        })
    }

    /// The calls so far, `wait` apart.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Its clock falls behind.
    pub fn sleep_in(&self, time: Duration) {
        *self.behind.lock().unwrap() = time;
    }

    /// Ends a process.
    pub fn end(&self, pid: u32, status: u32) {
        self.exits.send_modify(|exits| {
            exits.insert(pid, status);
        });
    }

    /// Breaks the connection under whoever waits.
    pub fn break_off(&self) {
        self.broken.send_replace(true);
    }

    /// Kills something of a container for memory, and says so.
    pub fn run_out_of_memory(&self, container: &str) {
        self.killed.send_modify(|killed| *killed = (container.into(), killed.1 + 1));
    }

    /// Its processes do not listen to the SIGTERM of a shutdown.
    pub fn go_deaf(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    async fn all_ended(&self) {
        let all = FIRST_PID..*self.next_pid.lock().unwrap();
        let gone = |exits: &HashMap<u32, u32>| all.clone().all(|pid| exits.contains_key(&pid));
        self.exits.subscribe().wait_for(gone).await.unwrap();
    }

    /// Makes `call` fail.
    pub fn refuse(&self, call: &'static str, code: Code, message: &str) {
        let refusal = AgentError::Refused { code, message: message.into(), cause: None };
        self.refusals.lock().unwrap().insert(call, refusal);
    }

    /// Makes `call`, which is `exec`, `pause`, `stats` or `info`, take so long.
    pub fn delay(&self, call: &'static str, time: Duration) {
        self.delays.lock().unwrap().insert(call, time);
    }

    async fn take_time(&self, call: &'static str) {
        let time = self.delays.lock().unwrap().get(call).copied();
        if let Some(time) = time {
            tokio::time::sleep(time).await;
        }
    }

    fn note(&self, call: &'static str, about: impl std::fmt::Display) -> Result<(), AgentError> {
        self.calls.lock().unwrap().push(format!("{call} {about}"));
        self.refusals.lock().unwrap().get(call).map_or(Ok(()), |refusal| Err(refusal.clone()))
    }

    fn new_pid(&self) -> u32 {
        let mut next = self.next_pid.lock().unwrap();
        *next += 1;
        *next - 1
    }
}

#[async_trait]
impl Agent for FakeAgent {
    async fn prepare(&self, container: &ContainerId, _: GuestSpec, rootfs: Rootfs) -> Result<(), AgentError> {
        let disks: Vec<_> = rootfs.lowers.iter().chain(&rootfs.upper).map(|disk| disk.slot).collect();
        self.note("prepare", format_args!("{container} {disks:?}"))
    }
    async fn create(&self, container: &ContainerId, _: StreamIds, _: bool) -> Result<u32, AgentError> {
        self.note("create", container)?;
        Ok(self.new_pid())
    }
    async fn start(&self, container: &ContainerId) -> Result<(), AgentError> {
        self.note("start", container)
    }
    async fn exec(
        &self,
        container: &ContainerId,
        _: StreamIds,
        _: bool,
        _: Vec<u8>,
    ) -> Result<u32, AgentError> {
        self.note("exec", container)?;
        self.take_time("exec").await;
        Ok(self.new_pid())
    }
    async fn wait(&self, _: &ContainerId, pid: u32) -> Result<u32, AgentError> {
        let (mut exits, mut broken) = (self.exits.subscribe(), self.broken.subscribe());
        tokio::select! {
            Ok(exits) = exits.wait_for(|exits| exits.contains_key(&pid)) => Ok(exits[&pid]),
            _ = broken.wait_for(|broken| *broken) => Err(AgentError::Unreachable("broken off".into())),
        }
    }
    async fn wait_for_output(&self, container: &ContainerId, pid: u32) -> Result<(), AgentError> {
        self.wait(container, pid).await.map(drop)
    }
    async fn kill(&self, container: &ContainerId, target: Target, signal: u32) -> Result<(), AgentError> {
        self.note("kill", format_args!("{container} {target:?} {signal}"))?;
        match (target, signal) {
            (Target::Process(pid), 9 | 15) => self.end(pid, 128 + signal),
            (Target::All, 9) => {
                (FIRST_PID..*self.next_pid.lock().unwrap()).for_each(|pid| self.end(pid, 137))
            }
            _ => {}
        }
        Ok(())
    }
    async fn resize(
        &self,
        container: &ContainerId,
        pid: u32,
        width: u32,
        height: u32,
    ) -> Result<(), AgentError> {
        self.note("resize", format_args!("{container} {pid} {width}x{height}"))
    }
    async fn pause(&self, container: &ContainerId) -> Result<(), AgentError> {
        self.take_time("pause").await;
        self.note("pause", container)
    }
    async fn resume(&self, container: &ContainerId) -> Result<(), AgentError> {
        self.note("resume", container)
    }
    async fn update(&self, container: &ContainerId, _: Vec<u8>) -> Result<(), AgentError> {
        self.note("update", container)
    }
    async fn allow(&self, allowance: &Allowance) -> Result<(), AgentError> {
        self.note("allow", String::from_utf8_lossy(&allowance.to_oci()))
    }
    async fn stats(&self, container: &ContainerId) -> Result<CgroupFiles, AgentError> {
        self.note("stats", container)?;
        self.take_time("stats").await;
        let kills = format!("oom 9\noom_kill {}\n", self.killed.borrow().1);
        Ok(vec![("pids.current".into(), "1\n".into()), ("memory.events".into(), kills)])
    }
    async fn delete(&self, container: &ContainerId, pid: Option<u32>) -> Result<(), AgentError> {
        self.note("delete", format_args!("{container} {pid:?}"))
    }
    async fn release(&self, container: &ContainerId) -> Result<(), AgentError> {
        self.note("release", container)
    }
    async fn stats_of_all(&self) -> Result<CgroupFiles, AgentError> {
        self.note("stats", "of all")?;
        Ok(vec![("pids.current".into(), "3\n".into())])
    }
    async fn watch_memory(&self, told: mpsc::Sender<ContainerId>) -> Result<(), AgentError> {
        let mut killed = self.killed.subscribe();
        while killed.changed().await.is_ok() {
            let container = killed.borrow_and_update().0.parse().unwrap();
            told.send(container).await.unwrap();
        }
        Ok(())
    }
    async fn info(&self) -> Result<GuestInfo, AgentError> {
        self.take_time("info").await;
        let clock = Some(SystemTime::now() - *self.behind.lock().unwrap());
        Ok(GuestInfo { kernel_release: "6.12-fake".into(), clock, ..GuestInfo::default() })
    }
    async fn set_clock(&self, now: SystemTime) -> Result<(), AgentError> {
        *self.behind.lock().unwrap() = SystemTime::now().duration_since(now).unwrap_or_default();
        self.note("set_clock", "the guest")
    }
    async fn kernel_log(&self) -> Result<Vec<u8>, AgentError> {
        Ok(b"fake kernel log".to_vec())
    }
    async fn shutdown(&self, grace: Duration) -> Result<(), AgentError> {
        self.note("shutdown", "the guest")?;
        if self.deaf.load(Ordering::Relaxed) {
            let _ = tokio::time::timeout(grace, self.all_ended()).await;
        }
        Err(AgentError::Unreachable("a fake guest cannot power off".into()))
    }
}

/// Reaches the fake agent at once.
pub struct FakeConnector(pub Arc<FakeAgent>);

#[async_trait]
impl Connector for FakeConnector {
    async fn connect(&self, _: &mut UnixStream, _: &Vsock) -> Result<(Arc<dyn Agent>, Greeting), AgentError> {
        let phases = vec![("init".into(), Duration::from_millis(50))];
        let greeting = Greeting { agent_version: "fake".into(), kernel_release: "6.12-fake".into(), phases };
        Ok((self.0.clone(), greeting))
    }
}
