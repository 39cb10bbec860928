//! From nothing to an agent that answers: start the VMM, hand it the machine, wait for the guest's call.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::allowance::Allowance;
use super::options::SandboxOptions;
use super::slots::{self, Slots};
use super::timeline::Timeline;
use crate::agent::{Agent, AgentError, Connector, Greeting, READY_PORT};
use crate::install::{Installation, NotInstalled};
use crate::run_dir::{RunDir, RunDirError};
use crate::vmm::machine::{Attachments, MachineError, Opened};
use crate::vmm::{Machine, Spawned, VmEnd, Vmm, VmmError};
use crate::vsock::Vsock;

/// Why a VM did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A part of Theca is missing.
    #[error(transparent)]
    NotInstalled(#[from] NotInstalled),
    /// The machine cannot be built.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A file of the sandbox could not be opened.
    #[error("failed to open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its socket could not be made.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The VMM refused or failed.
    #[error(transparent)]
    Vmm(#[from] VmmError),
    /// The VM ended before its agent was ready.
    #[error("the VM ended before the guest was ready: {0}")]
    Ended(Arc<VmEnd>),
    /// The guest took too long. It was stopped; its last words tell how far it came.
    #[error("the guest was not ready within {} s; its last words:\n{console}", limit.as_secs())]
    TimedOut {
        /// How long it had.
        limit: Duration,
        /// The console's end.
        console: String,
    },
    /// The agent's services cannot be used.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// A VM whose agent answers; clones name the same one.
#[derive(Clone, Debug)]
pub struct Vm {
    /// The guest's agent.
    pub agent: Arc<dyn Agent>,
    /// The guest's ports.
    pub vsock: Vsock,
    /// The process that runs it.
    pub vmm: Vmm,
    /// What the agent said of itself.
    pub greeting: Arc<Greeting>,
}

/// A VM on its way up.
pub struct Launched {
    /// The process that runs it.
    pub vmm: Vmm,
    /// The task that watches the process.
    pub supervisor: JoinHandle<()>,
    /// What is left to do.
    pub rest: Rest,
}

/// The second half of a boot.
pub struct Rest {
    vmm: Vmm,
    machine: Option<Opened>,
    dials: mpsc::Receiver<(u32, UnixStream)>,
    vsock: Vsock,
    console: PathBuf,
    timeline: Timeline,
    allowance: Allowance,
    limit: Duration,
}

/// The first half: everything is opened and the VMM process is started. Nothing in it waits.
pub fn launch(
    installation: &Installation,
    options: &SandboxOptions,
    folder: &RunDir,
    slots: &mut Slots,
    timeline: &Timeline,
) -> Result<Launched, BootError> {
    let machine = Machine {
        vcpus: options.vcpus,
        memory_mib: options.memory_mib,
        cmdline: options.kernel_cmdline.clone(),
        kernel: options.kernel.clone().map_or_else(|| installation.kernel(), Ok)?,
        initrd: installation.initrd()?,
    };
    let console_path = folder.console_log();
    let open = |path: PathBuf, append: bool| {
        let mut how = OpenOptions::new();
        how.read(true).write(true).append(append).create(true).mode(0o600);
        how.open(&path).map_err(|source| BootError::Open { path, source })
    };
    let console = open(console_path.clone(), false)?;
    let log = open(folder.keeper_log(), true)?;
    let socket = folder.vsock_socket();
    let listener = folder.listen(&socket)?;
    // Every slot costs the guest a probe.
    let spare = match (options.ephemeral || options.one_task, slots.is_empty()) {
        (false, _) => slots::SPARE_SLOTS,
        (true, true) => slots::ONE_TASK_SLOTS,
        (true, false) => 0,
    };
    let attachments = Attachments {
        kvm: &installation.kvm,
        console: &console,
        vsock: listener.into(),
        host_ports: vec![READY_PORT],
        slots: slots.freeze(spare),
    };
    let opened = machine.open(attachments)?;
    let Spawned { vmm, dials, supervisor } = Vmm::spawn(&installation.vmm()?, Stdio::from(log), console)?;
    timeline.mark("vmm_spawned");
    let rest = Rest {
        vmm: vmm.clone(),
        machine: Some(opened),
        dials,
        vsock: Vsock::new(&socket),
        console: console_path,
        timeline: timeline.clone(),
        allowance: options.allowance,
        limit: options.boot_timeout,
    };
    Ok(Launched { vmm, supervisor, rest })
}

impl Rest {
    /// Waits until the agent answers, and answers with it the connection that closes when the agent is gone. On failure
    /// the VM is told to end.
    pub async fn finish(mut self, connector: Arc<dyn Connector>) -> Result<(Vm, UnixStream), BootError> {
        let limit = self.limit;
        let vmm = self.vmm.clone();
        let console = self.console.clone();
        let up = timeout(limit, async {
            tokio::select! {
                biased;
                up = self.run(&*connector) => up,
                end = vmm.ended() => Err(BootError::Ended(end)),
            }
        });
        let outcome = match up.await {
            Ok(outcome) => outcome,
            Err(_) => {
                let console = std::fs::File::open(console);
                let console = console.map(|file| crate::vmm::end::tail(&file)).unwrap_or_default();
                Err(BootError::TimedOut { limit, console })
            }
        };
        match outcome {
            // The VMM's end explains why it did not answer.
            Err(BootError::Vmm(VmmError::Ended)) => Err(BootError::Ended(vmm.ended().await)),
            Err(error) => {
                vmm.stop();
                Err(error)
            }
            up => up,
        }
    }

    async fn run(&mut self, connector: &dyn Connector) -> Result<(Vm, UnixStream), BootError> {
        let machine = self.machine.take().ok_or(VmmError::Ended)?;
        let configured = self.vmm.configure(machine);
        let started = self.vmm.start();
        configured.await?;
        self.timeline.mark("vm_configured");
        started.await?;
        self.timeline.mark("vcpus_started");
        // The first is the agent's: no container is there yet. Later ones find nobody, and are closed.
        let mut ready = loop {
            match self.dials.recv().await {
                Some((READY_PORT, stream)) => break stream,
                Some(_) => {}
                None => return Err(VmmError::Ended.into()),
            }
        };
        let (agent, greeting) = connector.connect(&mut ready, &self.vsock).await?;
        self.timeline.mark("agent_ready");
        self.timeline.add_guest(&greeting.phases);
        if !self.allowance.is_all() {
            agent.allow(&self.allowance).await?;
        }
        let (vsock, vmm) = (self.vsock.clone(), self.vmm.clone());
        Ok((Vm { agent, vsock, vmm, greeting: Arc::new(greeting) }, ready))
    }
}

/// Answers when the agent is gone: the connection that it opened when it was ready has closed. It has nothing more to say
/// on it, so a byte counts as the end too.
pub async fn agent_lost(mut ready: UnixStream) {
    let mut byte = [0; 1];
    let _ = ready.read(&mut byte).await;
}
